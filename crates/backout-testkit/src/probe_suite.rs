//! What every probe must do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ports::{Probe, ProbeSubject, SampleOutcome};
use jiff::Timestamp;
use tokio::time::Instant;

/// A probe and the four things it may meet.
#[async_trait]
pub trait ProbeBench: Send + Sync {
    /// The probe.
    fn probe(&self) -> Arc<dyn Probe>;
    /// Something healthy.
    async fn healthy(&self) -> ProbeSubject;
    /// Something that says it is bad; `None` if this probe can't tell bad from absent.
    async fn bad(&self) -> Option<ProbeSubject>;
    /// Nobody is there; `None` if this probe can't tell.
    async fn absent(&self) -> Option<ProbeSubject>;
    /// It never answers; `None` if that can't happen.
    async fn hanging(&self) -> Option<ProbeSubject>;
}

/// Runs the whole suite.
///
/// # Panics
/// At the first rule that is broken.
pub async fn check_probe(bench: &dyn ProbeBench) {
    let probe = bench.probe();
    assert!(["http", "tcp", "exec", "process"].contains(&probe.name()), "{}", probe.name());
    let before = Timestamp::now();
    let sample = probe.check(&bench.healthy().await).await.expect("a check that can be made");
    assert_eq!(sample.outcome, SampleOutcome::Pass);
    assert!(sample.latency_ms.is_finite() && sample.latency_ms >= 0.0);
    assert!(
        sample.started_at >= before && sample.started_at <= Timestamp::now(),
        "it began within the check"
    );

    if let Some(subject) = bench.bad().await {
        let sample = probe.check(&subject).await.expect("checked and bad is a sample");
        assert!(
            matches!(&sample.outcome, SampleOutcome::Fail(why) if !why.is_empty()),
            "{:?}",
            sample.outcome
        );
    }
    if let Some(subject) = bench.absent().await {
        let sample = probe.check(&subject).await.expect("checked and absent is a sample");
        let told = matches!(&sample.outcome, SampleOutcome::NotReady(why) | SampleOutcome::Fail(why) if !why.is_empty());
        assert!(told, "{:?}", sample.outcome);
    }
    if let Some(subject) = bench.hanging().await {
        hanging_is_bounded(probe.as_ref(), subject).await;
    }
}

async fn hanging_is_bounded(probe: &dyn Probe, subject: ProbeSubject) {
    // Once with one try, once with retries: the time holds for all of them together.
    for retries in [0, 3] {
        let subject =
            ProbeSubject { timeout: Duration::from_millis(400), retries, ..subject.clone() };
        let began = Instant::now();
        let sample = probe.check(&subject).await.expect("a time-out is a sample");
        assert!(matches!(sample.outcome, SampleOutcome::NotReady(_)), "{:?}", sample.outcome);
        // Ending a command that does not obey takes its own time.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
