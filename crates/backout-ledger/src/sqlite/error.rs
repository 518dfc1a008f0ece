//! What SQLite's errors mean.

use std::path::{Path, PathBuf};

use backout_core::ports::LedgerError;

use super::space;

/// Why a ledger could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("failed to find a ledger in {0}")]
    NotFound(PathBuf),
    /// The state folder must not be used.
    #[error("failed to use the state folder {folder}: {reason}")]
    NotOurs {
        /// The folder.
        folder: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The database holds none.
    #[error("failed to find a ledger in the database {0}")]
    NoLedger(String),
    /// A ledger was to be copied into the database, and is not all there.
    #[error(
        "failed to use the ledger in {database}: the copy of {from} into it is not finished; run `backout ledger copy` again from there"
    )]
    HalfCopied {
        /// Without its password.
        database: String,
        /// Where it comes from.
        from: String,
    },
    /// It was moved into a database.
    #[error(
        "failed to use the ledger in {folder}: it was moved to {database}; set BACKOUT_DATABASE_URL to that, with the password"
    )]
    Moved {
        /// The folder.
        folder: PathBuf,
        /// Without its password.
        database: String,
    },
    /// It is there and can't be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl OpenError {
    /// The same for who had it open before.
    pub(crate) fn into_ledger_error(self) -> LedgerError {
        match self {
            Self::Ledger(error) => error,
            other => LedgerError::Unavailable(other.to_string()),
        }
    }
}

/// SQLite's primary result codes (<https://www.sqlite.org/rescode.html>).
mod code {
    pub const BUSY: i32 = 5;
    pub const LOCKED: i32 = 6;
    pub const READONLY: i32 = 8;
    pub const IOERR: i32 = 10;
    pub const CORRUPT: i32 = 11;
    pub const FULL: i32 = 13;
    pub const CANTOPEN: i32 = 14;
    pub const PROTOCOL: i32 = 15;
    pub const NOTADB: i32 = 26;
}

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// Another process has the file: waiting helps.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(code::BUSY | code::LOCKED | code::PROTOCOL))
}

/// The meaning of an error for whoever called.
pub(super) fn ledger_error(folder: &Path, error: &sqlx::Error) -> LedgerError {
    let file = folder.join(super::LEDGER_FILE);
    let file = file.display();
    match primary_code(error) {
        Some(code::FULL) => LedgerError::DiskFull(folder.display().to_string()),
        // SQLite tells a full disk from other trouble only where it writes itself: not for its shared memory.
        Some(code::IOERR | code::CANTOPEN) if !space::can_write(folder) => {
            LedgerError::DiskFull(folder.display().to_string())
        }
        Some(code::BUSY | code::LOCKED | code::PROTOCOL) => {
            LedgerError::Unavailable(locked_message(folder))
        }
        Some(code::CORRUPT | code::NOTADB) => LedgerError::Unavailable(format!(
            "{file} is damaged ({error}); keep a copy of it with its -wal file, then restore it from a backup"
        )),
        Some(code::READONLY) => {
            LedgerError::Unavailable(format!("{file} can't be written ({error})"))
        }
        _ => LedgerError::Unavailable(format!("{file}: {error}")),
    }
}

fn locked_message(folder: &Path) -> String {
    let file = folder.join(super::LEDGER_FILE);
    let holders = super::locks::holders(&file);
    let who = if holders.is_empty() { "another process".to_owned() } else { holders.join(", ") };
    format!(
        "{} stays locked by {who}; try again, or continue or end that process if it is stopped",
        file.display()
    )
}
