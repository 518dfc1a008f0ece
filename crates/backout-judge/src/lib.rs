//! Right verdicts, almost as soon as mathematics allows.
//!
//! Pure: no clock, no files, no network. [`Judge::observe`] takes [`Event`]s in, [`Judge::verdict`]
//! says what they come to, with evidence in a sentence. State is bounded and nothing is allocated
//! per request.
//!
//! | question | where |
//! |---|---|
//! | did a check fail too often, or is it starting, or old? | `checks` |
//! | did a process go away? | `exits` |
//! | does the canary get its traffic? | `traffic` |
//! | is a fixed limit broken, and not by both sides? | `thresholds` over `windows` |
//! | is the canary worse than the baseline? | [`sequential`]: its `mixture` has the mathematics |
//! | what would another setting have said? | [`replay`] |
//! | how did the evidence grow? | [`Trace`], [`chart`] |
//!
//! Invariants. Missing data is never healthy. Only the canary's failures fail a release. Failing is
//! latched. What both sides suffer holds and never fails. All comparisons together take back a
//! harmless release with probability at most [`Settings::false_rollback_probability`] over the whole
//! watch, however often one looks, as long as requests (or sessions) fall to the canary with the
//! announced probability; comparisons with the past and of other metrics assume more, and their
//! modules say what. A warm-up mutes comparisons and nothing else.

pub mod chart;
mod checks;
mod counter;
mod event;
mod exits;
mod judge;
mod limits;
mod mutants;
pub mod replay;
mod report;
pub mod sequential;
mod settings;
mod thresholds;
mod trace;
mod traffic;
mod verdict;
mod windows;
mod words;

#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;

// What is measured lies beside the crate; its example uses all of it, the tests a part.
#[cfg(test)]
#[allow(dead_code)]
#[path = "../eval/mod.rs"]
mod eval;
#[cfg(test)]
extern crate self as backout_judge;

pub use counter::Counter;
pub use event::{Arm, CheckId, CheckOutcome, CheckSample, Event, MetricId, Shape, Worse};
pub use judge::Judge;
pub use settings::{Budget, ConsecutiveFailures, Limit, Settings, Thresholds};
pub use trace::Trace;
pub use verdict::{Cause, Level, Verdict};
