//! Faults that tests put into the judge, to see that its suite finds them. Outside of tests there
//! are none: [`is`] is then a constant.

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Comparisons go by half of the share in force.
    WrongShare,
    /// A new share is not heard of.
    ShareOfTheStart,
    /// Restarts cost nothing.
    RestartsWithoutBudget,
    /// No restarts.
    NoRestarts,
    /// A rate below the harmless one is a reason.
    NoHarmlessRate,
    /// A slowdown within the tolerance is a reason.
    NoLatencyTolerance,
    /// The baseline's errors are not looked at.
    BaselineErrorsIgnored,
    /// A limit that both sides break fails the canary.
    SharedLimitFails,
    /// The largest e-value of all metrics instead of their average.
    LargestOfAll,
    /// A session counts each time.
    SessionsCountEachTime,
    /// The worst session counts like the others.
    NoSessionLeftOut,
    /// A side that could not be read had no requests.
    GapIsSilence,
    /// The warm-up never ends.
    EndlessWarmUp,
    /// What is slow is learned from the canary too, before it is judged.
    LearnsFromTheCanary,
    /// Routes are judged only in sum.
    RoutesUnseen,
}

#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}

#[cfg(test)]
pub(crate) use switch::{is, with};

#[cfg(test)]
impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 14] = [
        Mutant::WrongShare,
        Mutant::ShareOfTheStart,
        Mutant::RestartsWithoutBudget,
        Mutant::NoRestarts,
        Mutant::NoHarmlessRate,
        Mutant::NoLatencyTolerance,
        Mutant::BaselineErrorsIgnored,
        Mutant::SharedLimitFails,
        Mutant::LargestOfAll,
        Mutant::SessionsCountEachTime,
        Mutant::GapIsSilence,
        Mutant::EndlessWarmUp,
        Mutant::LearnsFromTheCanary,
        Mutant::RoutesUnseen,
    ];
}

#[cfg(test)]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this fault is put in on this thread.
    pub(crate) fn is(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }

    /// Runs with a fault put in.
    pub(crate) fn with<T>(mutant: Mutant, run: impl FnOnce() -> T) -> T {
        ACTIVE.set(Some(mutant));
        let result = run();
        ACTIVE.set(None);
        result
    }
}
