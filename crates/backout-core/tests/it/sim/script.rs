//! What goes wrong, and when.

use std::collections::{BTreeMap, BTreeSet};

use backout_core::model::RequestKind;

/// What an injected try comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It did not happen; again may help.
    Transient,
    /// It did not happen; again will not help. For a watch: a failing verdict.
    Permanent,
    /// It happened, and nobody was told.
    UnknownApplied,
    /// It did not happen, and nobody was told.
    UnknownNotApplied,
    /// The holder dies between intent and effect.
    CrashBefore,
    /// The holder dies between effect and outcome.
    CrashAfter,
    /// No answer in time; the effect happened all the same.
    Timeout,
}

impl Fault {
    pub const ALL: [Fault; 7] = [
        Fault::Transient,
        Fault::Permanent,
        Fault::UnknownApplied,
        Fault::UnknownNotApplied,
        Fault::CrashBefore,
        Fault::CrashAfter,
        Fault::Timeout,
    ];

    /// The effect may have happened although its outcome was never recorded.
    pub fn excuses_a_repeat(self) -> bool {
        matches!(self, Fault::UnknownApplied | Fault::CrashAfter | Fault::Timeout)
    }

    pub fn is_crash(self) -> bool {
        matches!(self, Fault::CrashBefore | Fault::CrashAfter)
    }
}

/// Everything that is injected into one run.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// By number of the try, counted over all operations of the run.
    pub faults: BTreeMap<usize, Fault>,
    /// Boundaries between durable moments at which the holder dies.
    pub deaths: BTreeSet<usize>,
    /// A request that the holder finds before this try.
    pub request: Option<(usize, RequestKind)>,
    /// Each try of the step with this key goes wrong like this, so many times.
    pub always: Option<(String, Fault, u32)>,
    /// A death during a split lets the router's deadline run out.
    pub dead_man_fires: bool,
    /// The boundary at which an armed trip fires.
    pub trips: Option<usize>,
}

impl Script {
    /// Nothing goes wrong.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
            && self.deaths.is_empty()
            && self.request.is_none()
            && self.always.is_none()
            && self.trips.is_none()
    }
}

/// A seeded mistake in how the journal is folded, decided on or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// After a crash the step is taken for done.
    NoObserveTakenForDone,
    /// After a crash the step is tried again without a look.
    NoObserveTriedAgain,
    /// An unknown outcome is taken for success.
    UnknownIsDone,
    /// Tries have no limit.
    RetryWithoutLimit,
    /// A refusal is tried again.
    PermanentIsTransient,
    /// A retry does not wait.
    NoBackoff,
    /// The rows forget what was begun, so that going back skips the half-done step.
    SkipsHalfDoneStep,
    /// The outcome is journaled before the effect.
    DoneBeforeEffect,
    /// The effect begins before its intent is durable.
    IntentNotDurable,
    /// A failed step is skipped.
    SkipsFailedStep,
    /// A failing verdict is not acted on.
    IgnoresFailure,
    /// What failed after the pivot goes back.
    GoesBackAfterPivot,
    /// The check before a traffic move is left out, and the readiness before it.
    NoGate,
    /// The side that is left is stopped before traffic leaves it.
    StopsBeforeTraffic,
    /// The new side is live as soon as it was started.
    LiveTooEarly,
    /// The end is written before the last step.
    EndsEarly,
    /// A person's request to yield is not heard.
    DoesNotYield,
    /// What the router found about the release is not adopted.
    IgnoresTrip,
}

impl Mutant {
    pub const ALL: [Mutant; 18] = [
        Mutant::NoObserveTakenForDone,
        Mutant::NoObserveTriedAgain,
        Mutant::UnknownIsDone,
        Mutant::RetryWithoutLimit,
        Mutant::PermanentIsTransient,
        Mutant::NoBackoff,
        Mutant::SkipsHalfDoneStep,
        Mutant::DoneBeforeEffect,
        Mutant::IntentNotDurable,
        Mutant::SkipsFailedStep,
        Mutant::IgnoresFailure,
        Mutant::GoesBackAfterPivot,
        Mutant::NoGate,
        Mutant::StopsBeforeTraffic,
        Mutant::LiveTooEarly,
        Mutant::EndsEarly,
        Mutant::DoesNotYield,
        Mutant::IgnoresTrip,
    ];
}
