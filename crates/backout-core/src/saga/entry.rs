//! The journal's entries.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{OperationId, RequestId};
use crate::model::{RequestKind, Trigger};
use crate::ports::{ErrorClass, Receipt};

/// Newest format of [`Entry`] that this version reads and writes.
pub const ENTRY_FORMAT: u32 = 1;

/// One journaled fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of this format.
    pub format: u32,
    /// When, by the holder's wall clock: for people, never for decisions about leases.
    pub at: Timestamp,
    /// Epoch of the holder.
    pub epoch: u64,
    /// The fact.
    pub kind: EntryKind,
}

/// Why a release goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What caused it.
    pub trigger: Trigger,
    /// The sentences behind it.
    pub evidence: Vec<String>,
    /// A verdict (not a person, not a lost watcher) found the release bad.
    pub release_is_bad: bool,
    /// Done by the proxy itself: traffic is on the stable side already.
    pub by_router: bool,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All steps done.
    Done {
        /// False: a rollback that was completed, but what it restored fails.
        healthy: bool,
    },
    /// Failed before anything was changed.
    NothingChanged {
        /// Why.
        message: String,
    },
    /// Failing, and automatic rollback is switched off.
    FailedLive {
        /// Why.
        failure: Failure,
    },
    /// Handed over to an operation that takes it back.
    TakenBack {
        /// That operation.
        by: OperationId,
        /// Why; none when a person took it over.
        failure: Option<Failure>,
    },
    /// Replaced by a newer deploy while baking.
    Superseded {
        /// That operation.
        by: OperationId,
    },
    /// A person ended a stuck or interrupted operation as it is.
    Resolved {
        /// Why.
        reason: String,
        /// Who.
        by: String,
    },
}

/// A fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A holder begins or resumes.
    Claimed {
        /// `user@host:pid`.
        holder: String,
    },
    /// Intent: the try is about to be made.
    StepStarted {
        /// Index of the step.
        step: usize,
        /// Which try, from 1.
        attempt: u32,
    },
    /// Outcome: its postcondition was seen.
    StepDone {
        /// Index of the step.
        step: usize,
        /// Seen on recovery rather than after the effect.
        adopted: bool,
        /// What the adapter said.
        receipt: Receipt,
    },
    /// Outcome: the try failed.
    StepFailed {
        /// Index of the step.
        step: usize,
        /// What is known of the effect.
        class: ErrorClass,
        /// Why.
        message: String,
    },
    /// Observed after an unknown outcome or a crash: its postcondition does not hold, it may be tried again.
    StepNotApplied {
        /// Index of the step.
        step: usize,
    },
    /// Not needed any more (`promote --full`).
    StepSkipped {
        /// Index of the step.
        step: usize,
    },
    /// A verdict failed, a limit ran out, the dead-man fired or an abort was asked for.
    Failing {
        /// Why.
        failure: Failure,
    },
    /// A request was consumed.
    Requested {
        /// Its row.
        request: RequestId,
        /// What was asked.
        kind: RequestKind,
        /// Who.
        by: String,
    },
    /// Every user is on a good release again.
    TrafficSafe,
    /// Worth keeping.
    Warning {
        /// For people.
        message: String,
    },
    /// It can't continue by itself.
    Stuck {
        /// Index of the step.
        step: usize,
        /// Why.
        reason: String,
    },
    /// The end.
    Ended {
        /// How.
        ending: Ending,
    },
}
