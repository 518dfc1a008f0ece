//! The `process` probe: what the target itself knows, its own health check included.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ports::{
    Exit, Observed, OwnHealth, Probe, ProbeError, ProbeSubject, Running, Sample, SampleOutcome,
    Target,
};
use tokio::time::Instant;

use super::tries::{sample, with_retries};

/// Passes while the right release runs.
#[derive(Clone)]
pub struct ProcessProbe {
    target: Arc<dyn Target>,
}

impl ProcessProbe {
    /// A probe that asks this target.
    #[must_use]
    pub fn new(target: Arc<dyn Target>) -> Self {
        Self { target }
    }

    async fn attempt(
        &self,
        subject: &ProbeSubject,
        budget: Duration,
    ) -> Result<Sample, ProbeError> {
        let began = Instant::now();
        let could_not = |why: &dyn std::fmt::Display| {
            ProbeError(format!("failed to check {}: {why}", subject.unit))
        };
        let observed = tokio::time::timeout(budget, self.target.observe(&subject.unit, None))
            .await
            .map_err(|_| {
                could_not(&format!("the target did not answer within {} ms", budget.as_millis()))
            })?
            .map_err(|e| could_not(&e))?;
        let outcome = judge(&observed, subject)?;
        let version = observed.version.map(|v| v.to_string());
        Ok(Sample { version, ..sample(outcome, began.elapsed()) })
    }
}

fn judge(observed: &Observed, subject: &ProbeSubject) -> Result<SampleOutcome, ProbeError> {
    let unit = &subject.unit;
    Ok(match observed.running {
        Running::Unknown => {
            return Err(ProbeError(format!(
                "failed to check {unit}: the target can't tell what runs"
            )));
        }
        Running::No if observed.gave_up => {
            SampleOutcome::Fail(format!("{unit} ended too often{}", how(observed.last_exit)))
        }
        // Between two starts nothing runs: each exit before the first pass counts by itself, and no check on top.
        Running::No => {
            SampleOutcome::NotReady(format!("{unit} does not run{}", how(observed.last_exit)))
        }
        Running::Yes => match &observed.release {
            Some(release) if *release != subject.release => SampleOutcome::Fail(format!(
                "{unit} runs release {release}, not {}",
                subject.release
            )),
            _ => match observed.health {
                OwnHealth::None | OwnHealth::Passing => SampleOutcome::Pass,
                OwnHealth::Starting => SampleOutcome::NotReady(format!(
                    "the health check of {unit} has not passed yet"
                )),
                OwnHealth::Failing => SampleOutcome::Fail(format!(
                    "the health check of {unit} fails{}",
                    last_line(observed)
                )),
            },
        },
    })
}

fn last_line(observed: &Observed) -> String {
    let line = observed.tail.as_deref().and_then(|tail| tail.lines().last());
    line.map(|line| format!(": {line}")).unwrap_or_default()
}

fn how(exit: Option<Exit>) -> String {
    match exit {
        Some(Exit { code: Some(code), .. }) => format!(" (last exit code {code})"),
        Some(Exit { signal: Some(signal), .. }) => format!(" (last ended by signal {signal})"),
        _ => String::new(),
    }
}

#[async_trait]
impl Probe for ProcessProbe {
    fn name(&self) -> &'static str {
        "process"
    }

    async fn check(&self, subject: &ProbeSubject) -> Result<Sample, ProbeError> {
        with_retries(subject, |budget| self.attempt(subject, budget)).await
    }
}
