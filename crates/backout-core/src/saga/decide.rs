//! `decide`: the only place where it is decided what comes next.

use jiff::Timestamp;

use super::entry::{Ending, Failure};
use super::fold::{State, StepPhase};
use crate::model::{OperationKind, Trigger};
use crate::plan::{Action, Nature, Plan, WatchMode};

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Journal the intent and make this try.
    Run {
        /// Index of the step.
        step: usize,
        /// Which try.
        attempt: u32,
    },
    /// Its outcome is not known: observe before anything else.
    Observe {
        /// Index of the step.
        step: usize,
    },
    /// Try again, but not before then.
    Wait {
        /// The time.
        until: Timestamp,
    },
    /// Journal that it is not needed, with a warning if there is one.
    Skip {
        /// Index of the step.
        step: usize,
        /// For people.
        warning: Option<String>,
    },
    /// Journal why the release goes back.
    Fail {
        /// Why.
        failure: Failure,
    },
    /// Open the operation that takes it back.
    TakeBack {
        /// Why.
        failure: Failure,
    },
    /// Give the lease to whoever asked for it.
    Yield,
    /// Journal that it can't continue by itself.
    BecomeStuck {
        /// Index of the step.
        step: usize,
        /// Why.
        reason: String,
    },
    /// It waits for `retry`, `recover`, `rollback` or `resolve`.
    IsStuck {
        /// Index of the step.
        step: usize,
        /// Why.
        reason: String,
    },
    /// Commit the end.
    End {
        /// How.
        ending: Ending,
    },
    /// It is over.
    Over,
}

/// Wait before the next try: 200 ms doubled each time, at most 10 s.
#[must_use]
pub fn backoff_ms(attempts: u32) -> u64 {
    (200_u64 << attempts.saturating_sub(1).min(6)).min(10_000)
}

/// Decides from the state alone.
#[must_use]
pub fn decide(plan: &Plan, state: &State, now: Timestamp) -> Decision {
    if state.ended.is_some() {
        return Decision::Over;
    }
    if state.yield_to.is_some() {
        return Decision::Yield;
    }
    if let (Some(failure), true) = (&state.failing, plan.can_be_taken_back()) {
        return going_back(plan, state, failure);
    }
    if let Some((step, reason)) = &state.stuck {
        return Decision::IsStuck { step: *step, reason: reason.clone() };
    }
    let Some(current) = state.current() else {
        return Decision::End { ending: Ending::Done { healthy: verified_healthy(plan, state) } };
    };
    let step = &plan.steps[current];
    let progress = &state.steps[current];
    match progress.phase {
        StepPhase::Running | StepPhase::Unknown => Decision::Observe { step: current },
        StepPhase::Refused => exhausted(plan, state, current),
        StepPhase::Pending | StepPhase::Failed => {
            if state.promote_full && is_skipped_by_full_promotion(plan, current) {
                return Decision::Skip { step: current, warning: None };
            }
            if progress.counted_attempts >= step.max_attempts {
                return exhausted(plan, state, current);
            }
            let due = match (progress.phase, progress.changed_at) {
                (StepPhase::Failed, Some(at)) => wait_until(at, progress.counted_attempts, now),
                _ => None,
            };
            match due {
                Some(until) => Decision::Wait { until },
                None => Decision::Run { step: current, attempt: progress.attempts + 1 },
            }
        }
        StepPhase::Done | StepPhase::Skipped => Decision::Over,
    }
}

/// `None` when due. A clock that was set back must not make a retry wait longer than one backoff.
fn wait_until(failed_at: Timestamp, attempts: u32, now: Timestamp) -> Option<Timestamp> {
    let wait_ms = i64::try_from(backoff_ms(attempts)).unwrap_or(10_000);
    let elapsed_ms = now.as_millisecond() - failed_at.as_millisecond();
    if (0..wait_ms).contains(&elapsed_ms) {
        Timestamp::from_millisecond(failed_at.as_millisecond() + wait_ms).ok()
    } else {
        None
    }
}

fn going_back(plan: &Plan, state: &State, failure: &Failure) -> Decision {
    if !state.changed_anything(plan) {
        return Decision::End {
            ending: Ending::NothingChanged { message: failure.evidence.join("; ") },
        };
    }
    // A person's abort and what the proxy did already are carried out even where automatic rollback is off.
    let wanted = plan.automatic_rollback || failure.by_router || failure.trigger == Trigger::Manual;
    if wanted {
        Decision::TakeBack { failure: failure.clone() }
    } else {
        Decision::End { ending: Ending::FailedLive { failure: failure.clone() } }
    }
}

fn is_skipped_by_full_promotion(plan: &Plan, step: usize) -> bool {
    match &plan.steps[step].action {
        // Away from a side that is emptied is no stage.
        Action::SetTraffic(traffic) => (1..100).contains(&traffic.percent),
        Action::Watch { mode: WatchMode::Hold { .. }, .. } => true,
        _ => false,
    }
}

fn verified_healthy(plan: &Plan, state: &State) -> bool {
    plan.steps.iter().zip(&state.steps).all(|(step, progress)| {
        !matches!(step.action, Action::Watch { mode: WatchMode::Verify { .. }, .. })
            || progress.receipt.as_ref().is_none_or(|receipt| receipt.data["healthy"] != false)
    })
}

/// No further try will be made.
fn exhausted(plan: &Plan, state: &State, current: usize) -> Decision {
    let step = &plan.steps[current];
    let error =
        state.steps[current].error.clone().unwrap_or_else(|| "it was cut off each time".to_owned());
    let message = format!("{} of {} failed: {error}", step.name, step.subject);
    if step.action.is_advisory(plan.kind) {
        return Decision::Skip { step: current, warning: Some(message) };
    }
    let untouched = !state.changed_anything(plan);
    let by_hand = plan.trigger.is_none_or(|trigger| trigger == Trigger::Manual);
    match plan.kind {
        _ if untouched && by_hand => Decision::End { ending: Ending::NothingChanged { message } },
        OperationKind::Deploy if step.nature != Nature::Retriable => {
            let is_start = matches!(step.action, Action::Start { .. });
            Decision::Fail {
                failure: Failure {
                    trigger: if is_start { Trigger::StartupFailure } else { Trigger::Timeout },
                    evidence: vec![message],
                    release_is_bad: is_start,
                    by_router: false,
                },
            }
        }
        _ => Decision::BecomeStuck { step: current, reason: message },
    }
}
