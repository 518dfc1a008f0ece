//! Tries within one check, which share its time.

use std::time::Duration;

use backout_core::ports::{ProbeError, ProbeSubject, Sample, SampleOutcome};
use jiff::Timestamp;
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(250);

/// Makes up to `1 + retries` tries within the check's time, each with its share of what is left. The first
/// good one counts, else the last.
pub(super) async fn with_retries<F, R>(
    subject: &ProbeSubject,
    mut attempt: F,
) -> Result<Sample, ProbeError>
where
    F: FnMut(Duration) -> R,
    R: Future<Output = Result<Sample, ProbeError>>,
{
    let started_at = Timestamp::now();
    let end = Instant::now() + subject.timeout;
    let mut left = subject.retries;
    loop {
        let budget = end.saturating_duration_since(Instant::now()) / (left + 1);
        let result = attempt(budget).await.map(|sample| Sample { started_at, ..sample });
        let good = matches!(&result, Ok(s) if matches!(s.outcome, SampleOutcome::Pass | SampleOutcome::Warn(_)));
        if good || left == 0 {
            return result;
        }
        left -= 1;
        let pause = PAUSE.min(end.saturating_duration_since(Instant::now()) / (left + 2));
        tokio::time::sleep(pause).await;
        if Instant::now() >= end {
            return result;
        }
    }
}

/// A sample with nothing but its outcome.
pub(super) fn sample(outcome: SampleOutcome, took: Duration) -> Sample {
    Sample {
        started_at: Timestamp::now(),
        outcome,
        latency_ms: took.as_secs_f64() * 1000.0,
        error_rate: None,
        availability: None,
        response_time_ms: None,
        version: None,
        timestamp: None,
    }
}
