//! `decide`: the only place where it is decided what comes next.

use jiff::Timestamp;

use super::entry::{Ending, Failure};
use super::fold::{State, StepPhase};
use crate::model::{OperationKind, Trigger};
use crate::plan::{Action, Nature, Plan, WatchMode};

/// One try of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    /// Index of the step.
    pub step: usize,
    /// Which try, counted from one.
    pub attempt: u32,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Journal the intents and make these tries, all at the same time.
    Run {
        /// At least one.
        tries: Vec<Try>,
    },
    /// Their outcomes are not known: observe before anything else.
    Observe {
        /// Indices of the steps, at least one.
        steps: Vec<usize>,
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
    next_of_wave(plan, state, current, now)
}

/// What the steps that are done at the same time need: what is not known is observed first, then all that are due
/// are tried together. One that will not be tried again ends the wave only when the others are done or given up too.
fn next_of_wave(plan: &Plan, state: &State, current: usize, now: Timestamp) -> Decision {
    let open = |index: &usize| {
        matches!(state.steps[*index].phase, StepPhase::Running | StepPhase::Unknown)
    };
    let unknown: Vec<usize> = plan.wave_of(current).filter(open).collect();
    if !unknown.is_empty() {
        return Decision::Observe { steps: unknown };
    }
    let (mut tries, mut until, mut given_up) = (Vec::new(), None::<Timestamp>, None);
    for index in plan.wave_of(current) {
        let progress = &state.steps[index];
        match progress.phase {
            StepPhase::Running | StepPhase::Unknown | StepPhase::Done | StepPhase::Skipped => {}
            StepPhase::Refused => given_up = given_up.or(Some(index)),
            StepPhase::Pending | StepPhase::Failed => {
                if state.promote_full && is_skipped_by_full_promotion(plan, index) {
                    return Decision::Skip { step: index, warning: None };
                }
                if progress.counted_attempts >= plan.steps[index].max_attempts {
                    given_up = given_up.or(Some(index));
                    continue;
                }
                let due = match (progress.phase, progress.changed_at) {
                    (StepPhase::Failed, Some(at)) => wait_until(at, progress.counted_attempts, now),
                    _ => None,
                };
                match due {
                    Some(at) => until = Some(until.map_or(at, |until| until.min(at))),
                    None => tries.push(Try { step: index, attempt: progress.attempts + 1 }),
                }
            }
        }
    }
    match (tries.is_empty(), until, given_up) {
        (false, ..) => Decision::Run { tries },
        (true, Some(until), _) => Decision::Wait { until },
        (true, None, Some(step)) => exhausted(plan, state, step),
        (true, None, None) => Decision::Over,
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
    let message = failure_of_wave(plan, state, current);
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

/// What failed; of steps that were done at the same time also what did not: the outcome is mixed then.
fn failure_of_wave(plan: &Plan, state: &State, current: usize) -> String {
    let error = |index: usize| {
        state.steps[index].error.clone().unwrap_or_else(|| "it was cut off each time".to_owned())
    };
    let wave = plan.wave_of(current);
    let name = &plan.steps[current].name;
    if wave.len() == 1 {
        return format!("{name} of {} failed: {}", plan.steps[current].subject, error(current));
    }
    const NAMED: usize = 5;
    let failed: Vec<usize> = wave.clone().filter(|i| !state.steps[*i].is_finished()).collect();
    let named = failed.iter().take(NAMED);
    let mut words: Vec<String> =
        named.map(|i| format!("{}: {}", plan.steps[*i].subject, error(*i))).collect();
    if failed.len() > NAMED {
        words.push(format!("and {} more", failed.len() - NAMED));
    }
    let (all, done) = (wave.len(), wave.len() - failed.len());
    let kind = if done == 0 { "failed" } else { "mixed" };
    format!("{name} {kind}, done on {done} of {all}; failed: {}", words.join("; "))
}
