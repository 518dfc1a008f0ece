//! The ledger in one SQLite file, `ledger.db` in the state folder.

mod changes;
mod codec;
mod commit;
mod database;
mod error;
mod folder;
mod lease;
mod locks;
mod migrations;
mod open;
mod port;
mod query;
mod rows;
mod space;

use std::path::Path;
use std::sync::Arc;

use backout_core::ports::LedgerError;

use crate::chain::{self, Link};
use crate::surroundings::{RealSurroundings, Surroundings};
use database::Database;
use lease::Terms;

pub use error::OpenError;
pub use space::{RESERVE_BYTES, RESERVE_FILE, free_reserve};

/// Name of the ledger's file in the state folder.
pub const LEDGER_FILE: &str = "ledger.db";

/// Term of a lease.
pub const DEFAULT_TERM_MS: u64 = 15_000;

/// Largest blob.
pub const MAX_BLOB_BYTES: usize = 10 * 1024 * 1024;

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
        Self { term_ms: DEFAULT_TERM_MS, surroundings: Arc::new(RealSurroundings) }
    }
}

/// The [`Ledger`](backout_core::ports::Ledger) on SQLite. Calls on one value wait for each other.
pub struct SqliteLedger {
    database: Database,
    options: SqliteOptions,
}

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
        Ok(Self { database, options })
    }

    /// The state folder, absolute.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.database.folder()
    }

    /// Closes the file and waits for it. Dropping is as safe, but leaves it to a thread that may not get to it.
    ///
    /// # Errors
    /// When SQLite can't close it; all that was acknowledged is durable all the same.
    pub async fn close(self) -> Result<(), LedgerError> {
        self.database.close().await
    }

    /// Removes the reserved file ([`free_reserve`]) and from then on keeps the write-ahead log small. True if
    /// there was one.
    ///
    /// # Errors
    /// When the file is there and can't be removed.
    pub async fn free_reserve(&self) -> Result<bool, LedgerError> {
        let freed = free_reserve(self.folder())?;
        // A connection that is opened from now on finds no reserve and does this by itself.
        let mut held = self.database.hold().await?;
        open::be_thrifty(self.folder(), held.connection()).await?;
        held.give_back();
        Ok(freed)
    }

    /// Follows the chain of hashes over all entries. Returns how many there are.
    ///
    /// # Errors
    /// `CorruptRecord` names the first entry that was changed, or that follows a removed one.
    pub async fn verify_chain(&self) -> Result<u64, LedgerError> {
        const BATCH: u32 = 1000;
        let (mut count, mut last_id, mut hash) = (0, 0_i64, chain::GENESIS.to_vec());
        loop {
            let statement = sqlx::query(
                "SELECT id, operation, sequence, epoch, json, hash FROM entries WHERE id > ? ORDER BY id LIMIT ?",
            )
            .bind(last_id)
            .bind(BATCH);
            let rows = self.database.fetch_all(statement).await?;
            if rows.is_empty() {
                return Ok(count);
            }
            for row in &rows {
                last_id = codec::column("an entry", row, "id")?;
                let operation: String = codec::column("an entry", row, "operation")?;
                let sequence = codec::unsigned("an entry", row, "sequence")?;
                let what = format!("entry {sequence} of {operation}");
                let json: String = codec::column(&what, row, "json")?;
                let epoch = codec::unsigned(&what, row, "epoch")?;
                let link = Link { operation: &operation, sequence, epoch, json: &json };
                hash = chain::next(&hash, &link).to_vec();
                if hash != codec::column::<Vec<u8>>(&what, row, "hash")? {
                    return Err(codec::corrupt(
                        &what,
                        &"its hash does not follow from the entries before it",
                    ));
                }
                count += 1;
            }
        }
    }

    fn terms(&self) -> Terms<'_> {
        Terms { surroundings: self.options.surroundings.as_ref(), term_ms: self.options.term_ms }
    }
}
