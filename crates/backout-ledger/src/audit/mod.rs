//! The audit log: the tree over a ledger's history, signed checkpoints, checks and exports. Nothing here knows which
//! store keeps it.

pub(crate) mod columns;
mod finding;
mod log;
pub mod tree;
mod verify;

pub use finding::{Finding, FindingKind};
pub(crate) use log::{Pending, pack, rebuild, unpack};
pub use verify::{Known, Report, Verifier, verify};
