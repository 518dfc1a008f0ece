//! The ledger in one SQLite file, `ledger.db` in the state folder.

mod audit_migration;
mod database;
mod error;
mod folder;
mod locks;
mod migrations;
mod moved;
mod open;
mod space;

use std::path::Path;
use std::sync::Arc;

use backout_core::ports::LedgerError;

use crate::faults;
use crate::records::{DEFAULT_TERM_MS, LedgerOn};
use crate::surroundings::{RealSurroundings, Surroundings};
use database::Database;

pub(crate) use database::SqliteWrite;
pub use error::OpenError;
pub(crate) use moved::{mark_moved, moved_to};
pub use space::{RESERVE_BYTES, RESERVE_FILE, free_reserve};

/// Name of the ledger's file in the state folder.
pub const LEDGER_FILE: &str = "ledger.db";

/// What the opener is going to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Creates folder and ledger when missing, brings an older format up to date.
    ReadWrite,
    /// Creates and changes nothing.
    ReadOnly,
}

/// What differs in tests.
#[derive(Clone)]
pub struct SqliteOptions {
    /// Term of a lease, milliseconds.
    pub term_ms: u64,
    /// Clock and processes.
    pub surroundings: Arc<dyn Surroundings>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { term_ms: faults::term_ms(DEFAULT_TERM_MS), surroundings: Arc::new(RealSurroundings) }
    }
}

/// The [`Ledger`](backout_core::ports::Ledger) on SQLite. Calls on one value wait for each other.
pub type SqliteLedger = LedgerOn<Database>;

impl SqliteLedger {
    /// Opens the ledger of a state folder.
    ///
    /// # Errors
    /// [`OpenError::NotFound`] when reading and there is none; [`OpenError::NotOurs`] for a folder that others
    /// own or may write into; else why the ledger that is there can't be used.
    pub async fn open(folder: &Path, mode: OpenMode) -> Result<Self, OpenError> {
        Self::open_with(folder, mode, SqliteOptions::default()).await
    }

    /// As [`SqliteLedger::open`], with another term, clock or view of processes.
    ///
    /// # Errors
    /// As [`SqliteLedger::open`].
    pub async fn open_with(
        folder: &Path,
        mode: OpenMode,
        options: SqliteOptions,
    ) -> Result<Self, OpenError> {
        let database = Database::open(folder, mode).await?;
        Ok(Self::new(database, options.term_ms, options.surroundings))
    }

    /// Opens the ledger of a state folder to move it: one that is there, moved before or not.
    pub(crate) async fn open_to_move(folder: &Path) -> Result<Self, OpenError> {
        let options = SqliteOptions::default();
        let database = Database::open_to_move(folder).await?;
        Ok(Self::new(database, options.term_ms, options.surroundings))
    }

    /// The state folder, absolute.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.store.folder()
    }

    /// Closes the file and waits for it. Dropping is as safe, but leaves it to a thread that may not get to it.
    ///
    /// # Errors
    /// When SQLite can't close it; all that was acknowledged is durable all the same.
    pub async fn close(&self) -> Result<(), LedgerError> {
        self.store.close().await
    }

    /// Removes the reserved file ([`free_reserve`]) and from then on keeps the write-ahead log small. True if
    /// there was one.
    ///
    /// # Errors
    /// When the file is there and can't be removed.
    pub async fn free_reserve(&self) -> Result<bool, LedgerError> {
        let freed = free_reserve(self.folder())?;
        // A connection that is opened from now on finds no reserve and does this by itself.
        let mut held = self.store.hold().await?;
        open::be_thrifty(self.folder(), held.connection()).await?;
        held.give_back();
        Ok(freed)
    }
}
