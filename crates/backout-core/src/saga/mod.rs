//! The saga: state is computed only by [`fold`], what comes next only by [`decide`].

mod decide;
mod entry;
mod fold;
mod hosts;
mod records;

pub use decide::{Decision, Try, backoff_ms, decide};
pub use entry::{ENTRY_FORMAT, Ending, Entry, EntryKind, Failure};
pub use fold::{CorruptJournal, State, StepPhase, StepState, fold};
pub use hosts::{begun_batches, untouched_hosts};
pub use records::{Opening, on_end, on_progress, opening, step_records};
