//! Right verdicts, almost as soon as mathematics allows.
//!
//! Pure: no clock, no files, no network. [`Judge::observe`] takes [`Event`]s in, [`Judge::verdict`]
//! says what they come to, with evidence in a sentence. State is bounded and nothing is allocated
//! per request.

pub mod chart;
mod checks;
mod counter;
mod event;
mod exits;
mod judge;
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
mod tests;

pub use counter::Counter;
pub use event::{Arm, CheckId, CheckOutcome, CheckSample, Event, MetricId, Worse};
pub use judge::Judge;
pub use settings::{Budget, ConsecutiveFailures, Limit, Settings, Thresholds};
pub use trace::Trace;
pub use verdict::{Cause, Level, Verdict};
