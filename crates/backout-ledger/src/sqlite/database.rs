//! The one connection. Whatever fails or is dropped half-way costs the connection; it never leaves a
//! transaction open, and what follows sees what became of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use async_trait::async_trait;
use backout_core::ids::EnvironmentKey;
use backout_core::ports::LedgerError;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Connection, Row as _, Sqlite, SqliteConnection};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::error::{OpenError, is_busy, ledger_error};
use super::open::{self, Opened};
use super::{OpenMode, migrations, space};
use crate::records::store::{Look, Row, Statement, Store, Write, driver};
use crate::surroundings::Surroundings;

driver!(Sqlite, SqliteArguments, SqliteRow);

/// Tries to get the write lock; SQLite waits two seconds in each. All of them end well before a lease's term.
const BEGIN_TRIES: u32 = 3;

/// The lock, and behind it the format: one way to the thread that has the file.
const BEGIN: &str = "BEGIN IMMEDIATE; PRAGMA user_version";

/// The file and the connection to it.
pub struct Database {
    folder: PathBuf,
    mode: OpenMode,
    connection: Mutex<Option<Opened>>,
    /// Environments that go back now.
    going_back: std::sync::Mutex<BTreeSet<EnvironmentKey>>,
}

impl Database {
    pub(super) async fn open(folder: &Path, mode: OpenMode) -> Result<Self, OpenError> {
        // Absolute: SQLite would take a name with a scheme for an address, and the working folder may change.
        let folder =
            std::path::absolute(folder).map_err(|error| super::folder::unavailable(&error))?;
        let opened = open::open(&folder, mode).await?;
        Ok(Self::new(folder, mode, opened))
    }

    pub(super) async fn open_to_move(folder: &Path) -> Result<Self, OpenError> {
        let folder =
            std::path::absolute(folder).map_err(|error| super::folder::unavailable(&error))?;
        let opened = open::open_to_move(&folder).await?;
        Ok(Self::new(folder, OpenMode::ReadWrite, opened))
    }

    fn new(folder: PathBuf, mode: OpenMode, opened: Opened) -> Self {
        let connection = Mutex::new(Some(opened));
        Self { folder, mode, connection, going_back: std::sync::Mutex::default() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn error(&self, error: &sqlx::Error) -> LedgerError {
        ledger_error(&self.folder, error)
    }

    /// The connection, opened again if the last one was lost.
    pub(super) async fn hold(&self) -> Result<Held<'_>, LedgerError> {
        let mut home = self.connection.lock().await;
        if let Some(opened) = home.as_mut().filter(|opened| opened.lost) {
            // Its thread may still be committing: what is read next must show that.
            let _ = opened.connection.ping().await;
            *home = None;
        }
        if home.is_none() {
            let mut opened = open::open(&self.folder, self.mode).await;
            if let Err(OpenError::Ledger(LedgerError::DiskFull(_))) = opened
                && self.uses_reserve()
            {
                opened = open::open(&self.folder, self.mode).await;
            }
            *home = Some(opened.map_err(OpenError::into_ledger_error)?);
        }
        if let Some(opened) = home.as_mut() {
            opened.lost = true;
        }
        MutexGuard::try_map(home, Option::as_mut).map(|opened| Held { opened }).map_err(|_| {
            LedgerError::Unavailable("the connection to the ledger is gone".to_owned())
        })
    }

    fn is_way_back(&self) -> bool {
        !self.going_back.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Frees the reserve if this is a way back. True if there was one.
    fn uses_reserve(&self) -> bool {
        let freed = self.is_way_back()
            && space::free_reserve(&self.folder).unwrap_or_else(|error| {
                tracing::warn!(%error, "failed to free the space that is reserved for a way back");
                false
            });
        if freed {
            let folder = self.folder.display();
            tracing::warn!(
                "the disk of {folder} is full: the reserved space is used for this way back"
            );
        }
        freed
    }

    /// Begins to write. Waits a bounded time for other processes.
    pub(crate) async fn begin_writing(&self) -> Result<SqliteWrite<'_>, LedgerError> {
        if self.mode == OpenMode::ReadOnly {
            let message =
                format!("the ledger in {} is open for reading only", self.folder.display());
            return Err(LedgerError::Unavailable(message));
        }
        let mut held = self.hold().await?;
        if self.is_way_back() && space::is_scarce(&self.folder) {
            self.uses_reserve();
            open::be_thrifty(&self.folder, held.connection()).await?;
        }
        let mut tries = 1;
        loop {
            match sqlx::query(BEGIN).fetch_one(held.connection()).await {
                Ok(row) => return SqliteWrite { database: self, held }.checked(&row).await,
                Err(error) if is_busy(&error) && tries < BEGIN_TRIES => tries += 1,
                Err(error) => {
                    let meaning = self.error(&error);
                    if is_busy(&error) {
                        held.give_back();
                    }
                    return Err(meaning);
                }
            }
        }
    }

    /// Closes the file, once whoever uses it is done. Dropping does the same in the background.
    pub(super) async fn close(&self) -> Result<(), LedgerError> {
        match self.connection.lock().await.take() {
            Some(opened) => {
                opened.connection.close().await.map_err(|error| ledger_error(&self.folder, &error))
            }
            None => Ok(()),
        }
    }
}

/// The connection in use. Until [`Held::give_back`] it counts as lost: a future that was cancelled may have left
/// anything in it.
pub(super) struct Held<'a> {
    opened: MappedMutexGuard<'a, Opened>,
}

impl Held<'_> {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.opened.connection
    }

    async fn fetch_all(
        &mut self,
        database: &Database,
        statement: Statement,
    ) -> Result<Vec<Row>, LedgerError> {
        let rows = prepare(statement).fetch_all(self.connection()).await;
        let rows = rows.map_err(|error| database.error(&error))?;
        Ok(rows.into_iter().map(boxed).collect())
    }

    pub(super) fn give_back(mut self) {
        self.opened.lost = !self.opened.lasting;
    }
}

/// A transaction that may write. Dropped, it is rolled back with its connection, unless its COMMIT was on the way.
pub(crate) struct SqliteWrite<'a> {
    database: &'a Database,
    held: Held<'a>,
}

#[async_trait]
impl Store for Database {
    async fn fetch_optional(&self, statement: Statement) -> Result<Option<Row>, LedgerError> {
        let mut held = self.hold().await?;
        let row = prepare(statement)
            .fetch_optional(held.connection())
            .await
            .map_err(|error| self.error(&error))?;
        held.give_back();
        Ok(row.map(boxed))
    }

    async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, LedgerError> {
        let mut held = self.hold().await?;
        let rows = held.fetch_all(self, statement).await?;
        held.give_back();
        Ok(rows)
    }

    async fn execute(&self, statement: Statement) -> Result<u64, LedgerError> {
        let mut write = self.begin().await?;
        let changed = write.execute(statement).await?;
        write.commit().await?;
        Ok(changed)
    }

    async fn begin(&self) -> Result<Box<dyn Write + '_>, LedgerError> {
        Ok(Box::new(self.begin_writing().await?))
    }

    async fn look(&self) -> Result<Box<dyn Look + '_>, LedgerError> {
        let mut held = self.hold().await?;
        let begun = sqlx::query("BEGIN").execute(held.connection()).await;
        begun.map_err(|error| self.error(&error))?;
        Ok(Box::new(SqliteLook { database: self, held }))
    }

    async fn now_ms(&self, here: &dyn Surroundings) -> Result<u64, LedgerError> {
        Ok(here.boottime_ms())
    }

    fn goes_back(&self, key: &EnvironmentKey, goes: bool) {
        let mut going_back = self.going_back.lock().unwrap_or_else(PoisonError::into_inner);
        if goes {
            going_back.insert(key.clone());
        } else {
            going_back.remove(key);
        }
    }

    async fn makes_room(&self, error: &LedgerError) -> bool {
        matches!(error, LedgerError::DiskFull(_)) && self.uses_reserve()
    }
}

/// A transaction that only reads. Dropped, it ends with its connection.
struct SqliteLook<'a> {
    database: &'a Database,
    held: Held<'a>,
}

#[async_trait]
impl Look for SqliteLook<'_> {
    async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<Row>, LedgerError> {
        self.held.fetch_all(self.database, statement).await
    }

    async fn end(mut self: Box<Self>) -> Result<(), LedgerError> {
        let ended = sqlx::query("COMMIT").execute(self.held.connection()).await;
        ended.map_err(|error| self.database.error(&error))?;
        self.held.give_back();
        Ok(())
    }
}

#[async_trait]
impl Look for SqliteWrite<'_> {
    async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<Row>, LedgerError> {
        self.held.fetch_all(self.database, statement).await
    }

    async fn end(self: Box<Self>) -> Result<(), LedgerError> {
        self.rollback().await;
        Ok(())
    }
}

impl SqliteWrite<'_> {
    /// A newer program may have changed the format since this one opened the file.
    async fn checked(self, row: &SqliteRow) -> Result<Self, LedgerError> {
        let found: i64 = row.try_get(0).map_err(|error| self.database.error(&error))?;
        if found <= migrations::SUPPORTED {
            return Ok(self);
        }
        Box::new(self).rollback().await;
        Err(LedgerError::NewerFormat { found, supported: migrations::SUPPORTED })
    }

    async fn run(
        &mut self,
        query: Query<'static, Sqlite, SqliteArguments>,
    ) -> Result<u64, LedgerError> {
        let result = query
            .execute(self.held.connection())
            .await
            .map_err(|error| self.database.error(&error))?;
        Ok(result.rows_affected())
    }
}

#[async_trait]
impl Write for SqliteWrite<'_> {
    async fn execute(&mut self, statement: Statement) -> Result<u64, LedgerError> {
        self.run(prepare(statement)).await
    }

    async fn fetch_optional(&mut self, statement: Statement) -> Result<Option<Row>, LedgerError> {
        prepare(statement)
            .fetch_optional(self.held.connection())
            .await
            .map(|row| row.map(boxed))
            .map_err(|error| self.database.error(&error))
    }

    fn now_ms(&self, here: &dyn Surroundings) -> u64 {
        here.boottime_ms()
    }

    async fn commit(mut self: Box<Self>) -> Result<(), LedgerError> {
        self.run(sqlx::query("COMMIT")).await?;
        self.held.give_back();
        Ok(())
    }

    async fn rollback(mut self: Box<Self>) {
        // SQLite rolls back by itself on a full disk; then, or if this fails, the connection goes.
        if self.run(sqlx::query("ROLLBACK")).await.is_ok() {
            self.held.give_back();
        }
    }
}
