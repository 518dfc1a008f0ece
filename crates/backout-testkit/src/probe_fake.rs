//! A probe whose answers a test gives.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use backout_core::ids::Version;
use backout_core::ports::{Probe, ProbeError, ProbeSubject, Sample, SampleOutcome};
use jiff::Timestamp;

/// An answer to one check.
type Answer = Result<Sample, ProbeError>;

/// Passes, unless a test says otherwise. Clones share their answers.
#[derive(Clone)]
pub struct FakeProbe {
    name: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    next: VecDeque<Answer>,
    of_version: BTreeMap<Version, Answer>,
    checked: Vec<ProbeSubject>,
    hang: bool,
}

impl FakeProbe {
    /// A probe of this name: `http`, `tcp`, `exec` or `process`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), state: Arc::default() }
    }

    /// All checks of a version answer so from now on.
    pub fn answer(&self, version: &Version, outcome: SampleOutcome) {
        self.answer_with(version, Ok(sample(outcome)));
    }

    /// All checks of a version answer so from now on.
    pub fn answer_with(&self, version: &Version, answer: Answer) {
        self.state().of_version.insert(version.clone(), answer);
    }

    /// The next check, of whatever version, answers so; several stand in line.
    pub fn answer_next(&self, answer: Answer) {
        self.state().next.push_back(answer);
    }

    /// Checks take the whole time-out and are not ready.
    pub fn hang(&self, hang: bool) {
        self.state().hang = hang;
    }

    /// What was checked, in order.
    #[must_use]
    pub fn checked(&self) -> Vec<ProbeSubject> {
        self.state().checked.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sample with this outcome, after one millisecond.
#[must_use]
pub fn sample(outcome: SampleOutcome) -> Sample {
    Sample {
        started_at: Timestamp::now(),
        outcome,
        latency_ms: 1.0,
        error_rate: None,
        availability: None,
        response_time_ms: None,
        version: None,
        timestamp: None,
    }
}

#[async_trait]
impl Probe for FakeProbe {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self, subject: &ProbeSubject) -> Answer {
        let started_at = Timestamp::now();
        let (answer, hang) = {
            let mut state = self.state();
            state.checked.push(subject.clone());
            let answer =
                state.next.pop_front().or_else(|| state.of_version.get(&subject.version).cloned());
            (answer, state.hang)
        };
        if hang {
            tokio::time::sleep(subject.timeout).await;
            let latency_ms = subject.timeout.as_secs_f64() * 1000.0;
            return Ok(Sample {
                started_at,
                latency_ms,
                ..sample(SampleOutcome::NotReady("no answer in time".to_owned()))
            });
        }
        answer
            .unwrap_or_else(|| Ok(sample(SampleOutcome::Pass)))
            .map(|sample| Sample { started_at, ..sample })
    }
}
