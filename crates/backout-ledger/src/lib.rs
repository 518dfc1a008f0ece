//! The ledger port on SQLite, in one file, `ledger.db`, in the state folder, and on PostgreSQL for several machines:
//! journal, leases, records and blobs.
//!
//! What a call acknowledged is durable. Rights to write are leases with an epoch, checked in the same
//! transaction as the write itself.

pub mod audit;
mod chain;
mod copy;
mod entropy;
mod faults;
mod holder;
mod postgres;
mod records;
mod seed;
mod sqlite;
mod surroundings;

pub use copy::{Copied, CopyError, Progress, copy_ledger};
pub use holder::{HolderError, holder_for_this_process};
pub use postgres::{
    DatabaseUrl, Limits, PostgresLedger, PostgresOptions, SharedSurroundings, UrlError,
};
pub use records::{DEFAULT_TERM_MS, LedgerOn, MAX_BLOB_BYTES};
pub use seed::{SeedError, seed_history, seed_interrupted};
pub use sqlite::{
    LEDGER_FILE, OpenError, OpenMode, RESERVE_BYTES, RESERVE_FILE, SqliteLedger, SqliteOptions,
    free_reserve,
};
pub use surroundings::{Liveness, RealSurroundings, Surroundings};
