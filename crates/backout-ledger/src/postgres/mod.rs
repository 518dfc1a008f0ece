//! The ledger in a PostgreSQL database, in a schema of its own, for commands and controllers on several machines.
//!
//! Leases end by the server's clock. Whoever writes locks the one row of `ledger` first, so that writers wait for each
//! other; every wait is bounded, here and on the server.

mod connect;
mod error;
mod migrations;
mod server;
mod surroundings;
mod url;
mod write;

use std::sync::Arc;
use std::time::Duration;

use backout_core::ports::LedgerError;

use crate::faults;
use crate::records::codec::column;
use crate::records::store::{Statement, Store as _};
use crate::records::{DEFAULT_TERM_MS, LedgerOn};
use crate::sqlite::{OpenError, OpenMode};
use crate::surroundings::Surroundings;
use server::Server;

/// What a copy into a database builds on.
pub(crate) mod copying {
    pub(crate) use super::connect::connect;
    pub(crate) use super::error::Failure;
    pub(crate) use super::migrations::{SUPPORTED, run as migrate};
    pub(crate) use super::server::{Reply, run, within};

    /// The format of the ledger in a database, if there is one.
    pub(crate) async fn found(
        connection: &mut sqlx::PgConnection,
        limits: &super::Limits,
    ) -> Result<Option<i64>, Failure> {
        Ok(super::connect::found(connection, limits).await?.map(|found| found.format))
    }
}

pub use surroundings::SharedSurroundings;
pub use url::{DatabaseUrl, UrlError};

/// Schema that holds the tables.
pub(crate) const SCHEMA: &str = "backout";

/// How long anything is waited for. All of one call together stays below a lease's term.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For one try to connect.
    pub connect: Duration,
    /// For tries to connect again after the server was there.
    pub reconnect: Duration,
    /// For the answer to a statement.
    pub statement: Duration,
    /// For one that carries much.
    pub large: Duration,
    /// For other writers, and for a writer that has begun and says nothing: the server ends it then.
    pub lock: Duration,
    /// To find out what became of a commit that got no answer.
    pub settle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(4),
            reconnect: Duration::from_secs(5),
            statement: Duration::from_secs(5),
            large: Duration::from_secs(60),
            lock: Duration::from_secs(4),
            settle: Duration::from_secs(8),
        }
    }
}

/// What differs in tests.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Term of a lease, milliseconds.
    pub term_ms: u64,
    /// Processes; its clock is not asked.
    pub surroundings: Arc<dyn Surroundings>,
    /// How long anything is waited for.
    pub limits: Limits,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            term_ms: faults::term_ms(DEFAULT_TERM_MS),
            surroundings: Arc::new(SharedSurroundings),
            limits: Limits::default(),
        }
    }
}

/// The [`Ledger`](backout_core::ports::Ledger) on PostgreSQL. Calls on one value wait for each other.
pub type PostgresLedger = LedgerOn<Server>;

impl PostgresLedger {
    /// Opens the ledger of a database.
    ///
    /// # Errors
    /// [`OpenError::NoLedger`] when reading and there is none, [`OpenError::HalfCopied`] where a copy was not
    /// finished; else why the database can't be used.
    pub async fn connect(url: &DatabaseUrl, mode: OpenMode) -> Result<Self, OpenError> {
        Self::connect_with(url, mode, PostgresOptions::default()).await
    }

    /// As [`PostgresLedger::connect`], with another term, view of processes or patience.
    ///
    /// # Errors
    /// As [`PostgresLedger::connect`].
    pub async fn connect_with(
        url: &DatabaseUrl,
        mode: OpenMode,
        options: PostgresOptions,
    ) -> Result<Self, OpenError> {
        let server = Server::open(url, mode, options.limits).await?;
        Ok(Self::new(server, options.term_ms, options.surroundings))
    }

    /// The address, without its password.
    #[must_use]
    pub fn url(&self) -> &DatabaseUrl {
        &self.store.url
    }

    /// Settings of the server, as they hold for this connection, that let it lose what it has acknowledged.
    ///
    /// # Errors
    /// When the server can't be asked.
    pub async fn careless_settings(&self) -> Result<Vec<String>, LedgerError> {
        let statement = Statement::new(
            "SELECT name FROM pg_settings WHERE setting = 'off'
             AND name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name",
        );
        let rows = self.store.fetch_all(statement).await?;
        rows.iter().map(|row| column("a setting", row, "name")).collect()
    }

    /// Ends the connection in order. Dropping is as safe.
    ///
    /// # Errors
    /// When the server does not answer; all that was acknowledged is durable all the same.
    pub async fn disconnect(self) -> Result<(), LedgerError> {
        self.store.close().await
    }
}
