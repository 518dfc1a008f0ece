//! Which ledger commands use: the file in the state folder, or the database that the environment names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backout_core::ports::{Ledger, LedgerError};
use backout_ledger::{
    DatabaseUrl, LEDGER_FILE, OpenError, OpenMode, PostgresLedger, SqliteLedger, UrlError,
};

/// Variable that names the database of the ledger.
pub const DATABASE_VARIABLE: &str = "BACKOUT_DATABASE_URL";

/// A commit that is under way at the end is waited for; it is bounded itself.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// Where the ledger is. Shown without any password.
#[derive(Debug, Clone)]
pub enum LedgerPlace {
    /// A file in this folder.
    Folder(PathBuf),
    /// This database.
    Database(Box<DatabaseUrl>),
}

impl LedgerPlace {
    /// The database, if one is named.
    ///
    /// # Errors
    /// When its address is not one; it is not repeated.
    pub fn new(state_dir: &Path, database: Option<&str>) -> Result<Self, UrlError> {
        match database.filter(|url| !url.is_empty()) {
            Some(url) => url.parse().map(|url| Self::Database(Box::new(url))),
            None => Ok(Self::Folder(state_dir.to_owned())),
        }
    }

    /// Whether opening it makes none: it is a file that is there.
    #[must_use]
    pub fn has_file(&self) -> bool {
        matches!(self, Self::Folder(folder) if folder.join(LEDGER_FILE).exists())
    }

    /// Opens it.
    ///
    /// # Errors
    /// As the ledger says.
    pub async fn open(&self, mode: OpenMode) -> Result<OpenLedger, OpenError> {
        Ok(match self {
            Self::Folder(folder) => {
                OpenLedger::File(Arc::new(SqliteLedger::open(folder, mode).await?))
            }
            Self::Database(url) => {
                OpenLedger::Database(Arc::new(PostgresLedger::connect(url, mode).await?))
            }
        })
    }
}

impl fmt::Display for LedgerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Database(url) => url.fmt(f),
        }
    }
}

/// Whether there is just no ledger yet.
#[must_use]
pub fn is_missing(error: &OpenError) -> bool {
    matches!(error, OpenError::NotFound(_) | OpenError::NoLedger(_))
}

/// A ledger that is open.
#[derive(Clone)]
pub enum OpenLedger {
    /// In the state folder.
    File(Arc<SqliteLedger>),
    /// In a database.
    Database(Arc<PostgresLedger>),
}

impl OpenLedger {
    /// For those who keep it.
    #[must_use]
    pub fn port(&self) -> Arc<dyn Ledger> {
        match self {
            Self::File(ledger) => ledger.clone(),
            Self::Database(ledger) => ledger.clone(),
        }
    }

    /// For a question.
    #[must_use]
    pub fn as_dyn(&self) -> &dyn Ledger {
        match self {
            Self::File(ledger) => ledger.as_ref(),
            Self::Database(ledger) => ledger.as_ref(),
        }
    }

    /// Settings of its server that let it lose what it has acknowledged; a file is synced whatever is set.
    ///
    /// # Errors
    /// When the server can't be asked.
    pub async fn careless_settings(&self) -> Result<Vec<String>, LedgerError> {
        match self {
            Self::File(_) => Ok(Vec::new()),
            Self::Database(ledger) => ledger.careless_settings().await,
        }
    }

    /// Closes it in order, whoever else still has it: the process is about to end. All that was acknowledged is durable
    /// all the same.
    pub async fn close(self) {
        match self {
            Self::File(ledger) => {
                let _ = tokio::time::timeout(CLOSE_PATIENCE, ledger.close()).await;
            }
            Self::Database(ledger) => {
                if let Some(ledger) = Arc::into_inner(ledger) {
                    let _ = ledger.disconnect().await;
                }
            }
        }
    }
}
