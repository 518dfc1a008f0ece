//! `fold`: the only place where the state of an operation is computed.

use jiff::Timestamp;

use super::entry::{ENTRY_FORMAT, Ending, Entry, EntryKind, Failure};
use crate::ids::RequestId;
use crate::model::RequestKind;
use crate::plan::{Action, Plan};
use crate::ports::{ErrorClass, Receipt};

/// A journal that no run of this program could have written. That one operation is quarantined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal of {operation} is corrupt at entry {sequence}: {message}")]
pub struct CorruptJournal {
    /// The operation.
    pub operation: String,
    /// Index of the entry.
    pub sequence: usize,
    /// What is wrong.
    pub message: String,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepPhase {
    /// Not tried, or seen not to have happened.
    Pending,
    /// Tried, outcome not recorded.
    Running,
    /// It may have happened.
    Unknown,
    /// Did not happen; again may help.
    Failed,
    /// Did not happen; again will not help.
    Refused,
    /// Its postcondition was seen.
    Done,
    /// Not needed.
    Skipped,
}

/// State of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepState {
    /// How far.
    pub phase: StepPhase,
    /// Tries that were begun, all in all.
    pub attempts: u32,
    /// Tries that were begun since the last `retry`: these count against the limit.
    pub counted_attempts: u32,
    /// A try may have had an effect: its outcome was not known, or not recorded.
    pub may_have_begun: bool,
    /// First try.
    pub started_at: Option<Timestamp>,
    /// Last entry about it.
    pub changed_at: Option<Timestamp>,
    /// Last failure.
    pub error: Option<String>,
    /// What the adapter said.
    pub receipt: Option<Receipt>,
}

impl StepState {
    fn new() -> Self {
        Self {
            phase: StepPhase::Pending,
            attempts: 0,
            counted_attempts: 0,
            may_have_begun: false,
            started_at: None,
            changed_at: None,
            error: None,
            receipt: None,
        }
    }

    /// Nothing is left to do for it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, StepPhase::Done | StepPhase::Skipped)
    }
}

/// State of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Entries so far.
    pub sequence: u64,
    /// Highest epoch so far.
    pub epoch: u64,
    /// Last holder.
    pub holder: Option<String>,
    /// Holders that began to watch: each began with nothing seen.
    pub watches: u32,
    /// The holder of the moment is one of them.
    watching: bool,
    /// By step.
    pub steps: Vec<StepState>,
    /// Why it goes back.
    pub failing: Option<Failure>,
    /// The hold of this step was ended by request.
    pub promoted: Option<usize>,
    /// Holds are skipped up to 100 %.
    pub promote_full: bool,
    /// The hold clock stands.
    pub paused: bool,
    /// The last holder left on purpose, and nobody took it up since.
    pub handed_over: bool,
    /// The holder was asked to yield.
    pub yield_to: Option<(RequestId, RequestKind)>,
    /// When users were safe.
    pub traffic_safe_at: Option<Timestamp>,
    /// Worth keeping.
    pub warnings: Vec<String>,
    /// It can't continue by itself.
    pub stuck: Option<(usize, String)>,
    /// The end.
    pub ended: Option<Ending>,
}

impl State {
    fn new(steps: usize) -> Self {
        Self {
            sequence: 0,
            epoch: 0,
            holder: None,
            watches: 0,
            watching: false,
            steps: vec![StepState::new(); steps],
            failing: None,
            promoted: None,
            promote_full: false,
            paused: false,
            handed_over: false,
            yield_to: None,
            traffic_safe_at: None,
            warnings: Vec::new(),
            stuck: None,
            ended: None,
        }
    }

    /// The first step that is not finished.
    #[must_use]
    pub fn current(&self) -> Option<usize> {
        self.steps.iter().position(|step| !step.is_finished())
    }

    /// Whether any step that others can notice was begun.
    #[must_use]
    pub fn changed_anything(&self, plan: &Plan) -> bool {
        plan.steps
            .iter()
            .zip(&self.steps)
            .any(|(step, state)| state.attempts > 0 && step.action.has_outside_effect())
    }
}

/// Computes the state from the plan and its journal.
///
/// # Errors
/// [`CorruptJournal`] for anything that [`super::decide`] can't have led to. Never panics.
pub fn fold(plan: &Plan, entries: &[Entry]) -> Result<State, CorruptJournal> {
    let mut state = State::new(plan.steps.len());
    for (sequence, entry) in entries.iter().enumerate() {
        apply(plan, &mut state, entry).map_err(|message| CorruptJournal {
            operation: plan.operation.to_string(),
            sequence,
            message,
        })?;
        state.sequence += 1;
    }
    Ok(state)
}

fn apply(plan: &Plan, state: &mut State, entry: &Entry) -> Result<(), String> {
    if entry.format > ENTRY_FORMAT {
        return Err(format!("format {} is newer than {ENTRY_FORMAT}", entry.format));
    }
    if entry.epoch < state.epoch {
        return Err(format!("epoch {} after epoch {}", entry.epoch, state.epoch));
    }
    if state.ended.is_some() {
        return Err("an entry after the end".to_owned());
    }
    state.epoch = entry.epoch;
    match &entry.kind {
        EntryKind::Claimed { holder } => {
            state.holder = Some(holder.clone());
            state.watching = false;
            state.handed_over = false;
            state.yield_to = None;
        }
        EntryKind::Failing { failure } => {
            if state.failing.is_none() {
                state.failing = Some(failure.clone());
            }
        }
        EntryKind::Requested { request, kind, .. } => requested(plan, state, request, *kind),
        EntryKind::TrafficSafe => state.traffic_safe_at = state.traffic_safe_at.or(Some(entry.at)),
        // Said at each stage, it is one warning all the same.
        EntryKind::Warning { message } if state.warnings.contains(message) => {}
        EntryKind::Warning { message } => state.warnings.push(message.clone()),
        EntryKind::Stuck { step, reason } => {
            check_index(state, *step)?;
            state.stuck = Some((*step, reason.clone()));
        }
        EntryKind::Ended { ending } => {
            if let (Ending::Done { .. }, Some(open)) = (ending, state.current()) {
                return Err(format!("done before step {}", plan.steps[open].key));
            }
            state.ended = Some(ending.clone());
        }
        EntryKind::StepStarted { step, .. }
        | EntryKind::StepDone { step, .. }
        | EntryKind::StepFailed { step, .. }
        | EntryKind::StepNotApplied { step }
        | EntryKind::StepSkipped { step } => {
            check_index(state, *step)?;
            // Steps of one wave are done in any order, after all that stand before them.
            let turn = state.current().is_some_and(|first| plan.wave_of(first).contains(step));
            if !turn || state.steps[*step].is_finished() {
                return Err(format!("step {step} out of order"));
            }
            let watches = matches!(plan.steps[*step].action, Action::Watch { .. });
            if watches && !state.watching && matches!(entry.kind, EntryKind::StepStarted { .. }) {
                state.watching = true;
                state.watches = state.watches.saturating_add(1);
            }
            let current = &mut state.steps[*step];
            step_entry(current, &entry.kind, entry.at)?;
            current.changed_at = Some(entry.at);
        }
    }
    Ok(())
}

fn check_index(state: &State, step: usize) -> Result<(), String> {
    if step < state.steps.len() { Ok(()) } else { Err(format!("step {step} is not in the plan")) }
}

fn requested(plan: &Plan, state: &mut State, request: &RequestId, kind: RequestKind) {
    match kind {
        RequestKind::Promote => state.promoted = state.current(),
        RequestKind::PromoteFull => {
            state.promoted = state.current();
            state.promote_full = true;
        }
        RequestKind::Pause => state.paused = true,
        RequestKind::Resume => state.paused = false,
        RequestKind::Retry => {
            if let Some((step, _)) = state.stuck.take() {
                for step in &mut state.steps[plan.wave_of(step)] {
                    step.counted_attempts = 0;
                    if matches!(step.phase, StepPhase::Failed | StepPhase::Refused) {
                        step.phase = StepPhase::Pending;
                    }
                }
            }
        }
        RequestKind::HandOver => state.handed_over = true,
        RequestKind::Abort | RequestKind::Deploy => {}
        RequestKind::TakeOver | RequestKind::Supersede => {
            state.yield_to = Some((request.clone(), kind))
        }
    }
}

fn step_entry(step: &mut StepState, kind: &EntryKind, at: Timestamp) -> Result<(), String> {
    let illegal = |phase: StepPhase, what: &str| Err(format!("{what} while {phase:?}"));
    match kind {
        EntryKind::StepStarted { attempt, .. } => match step.phase {
            StepPhase::Pending | StepPhase::Failed if *attempt == step.attempts + 1 => {
                step.phase = StepPhase::Running;
                step.attempts += 1;
                step.counted_attempts += 1;
                step.started_at = step.started_at.or(Some(at));
            }
            phase => return illegal(phase, &format!("try {attempt} after {}", step.attempts)),
        },
        EntryKind::StepDone { receipt, .. } => match step.phase {
            StepPhase::Running | StepPhase::Unknown => {
                step.phase = StepPhase::Done;
                step.receipt = Some(receipt.clone());
            }
            phase => return illegal(phase, "done"),
        },
        EntryKind::StepFailed { class, message, .. } => match step.phase {
            StepPhase::Running => {
                step.error = Some(message.clone());
                step.phase = match class {
                    ErrorClass::Transient => StepPhase::Failed,
                    ErrorClass::Permanent => StepPhase::Refused,
                    ErrorClass::Unknown => StepPhase::Unknown,
                };
                step.may_have_begun |= *class == ErrorClass::Unknown;
            }
            phase => return illegal(phase, "failed"),
        },
        EntryKind::StepNotApplied { .. } => match step.phase {
            // Its postcondition does not hold: that is not to say that nothing was done.
            StepPhase::Running | StepPhase::Unknown => {
                step.phase = StepPhase::Pending;
                step.may_have_begun = true;
            }
            phase => return illegal(phase, "not applied"),
        },
        _ => match step.phase {
            StepPhase::Pending | StepPhase::Failed | StepPhase::Refused => {
                step.phase = StepPhase::Skipped
            }
            phase => return illegal(phase, "skipped"),
        },
    }
    Ok(())
}
