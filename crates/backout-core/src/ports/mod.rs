//! The traits that adapters and ledgers implement, one file each.
//!
//! Adapters observe and apply; they never plan, never undo and never name each other.

mod artifacts;
pub mod audit;
mod config_files;
mod error;
mod host;
mod ledger;
mod metric;
mod probe;
mod router;
mod step_cx;
mod synthetic;
mod target;

pub use artifacts::{ArtifactDigest, ArtifactStore};
pub use config_files::{ConfigFiles, DiskFile};
pub use error::{AdapterError, ErrorClass};
pub use host::{
    GuardState, Host, HostChange, HostCommand, HostEnded, HostGuard, HostOutput, HostRevert,
    HostWords,
};
pub use ledger::{
    AppendError, Change, ClaimError, Commit, ControllerView, Holder, Lease, LeaseView, Ledger,
    LedgerError, OutboxMessage,
};
pub use metric::{MetricSource, MetricSubject, Point, Points};
pub use probe::{Probe, ProbeError, ProbeSubject, Sample, SampleOutcome};
pub use router::{
    DeadMan, DeadManFired, FrameStream, Router, RouterSide, SessionOutcome, SessionOutcomes,
    SideCounters, Traffic, TrafficChange, TrafficFrame, Trip, Tripped,
};
pub use step_cx::{Secret, Secrets, StepCx};
pub use synthetic::{Synthetic, SyntheticOutcome};
pub use target::{
    Capabilities, Earlier, Exit, Farewell, Marker, NamedText, Observed, OwnHealth, PartsOf,
    Receipt, Rehearsal, Revert, Running, Target, TargetAction,
};
