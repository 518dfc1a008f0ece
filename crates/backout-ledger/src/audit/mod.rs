//! The audit log: the tree over a ledger's history, signed checkpoints, checks and exports. Nothing here knows which
//! store keeps it.

pub mod checkpoint;
pub(crate) mod columns;
mod export;
mod files;
mod finding;
mod keeper;
mod log;
pub mod note;
pub mod tree;
mod verify;

pub use export::{
    EXPORT_NAME_END, ExportError, Exported, ReadExport, export, is_export_of, read_export,
};
pub use finding::{Finding, FindingKind};
pub use keeper::{AUDIT_FOLDER, Keeper, KeeperError, Signer};
pub(crate) use log::{Pending, pack, rebuild, unpack};
pub use verify::{Known, Report, Verifier, verify};
