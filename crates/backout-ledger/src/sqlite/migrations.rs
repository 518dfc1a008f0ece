//! The formats of the file, by `PRAGMA user_version`.

use std::path::Path;

use backout_core::ports::LedgerError;
use sqlx::{Connection, Row, SqliteConnection};

use super::audit_migration;
use super::error::ledger_error;

/// What each format adds, the first one first.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/0001_ledger.sql"),
    include_str!("../../migrations/sqlite/0002_controllers.sql"),
    include_str!("../../migrations/sqlite/0003_audit.sql"),
    include_str!("../../migrations/sqlite/0004_documents.sql"),
];

/// Format that has the audit log.
const WITH_AUDIT: i64 = 3;

/// Newest format that this version reads and writes.
pub(super) const SUPPORTED: i64 = MIGRATIONS.len() as i64;

/// Oldest format that can be read without being brought up to date. Reading changes nothing, so the tables that came
/// since are made up, empty.
pub(super) const OLDEST_READ: i64 = 1;

/// Tables that readers ask for, and the format that brought them.
const READ_SINCE: &[(i64, &str)] = &[
    (2, "CREATE TEMP TABLE controllers (id TEXT, expires_ms INTEGER, format INTEGER, json TEXT)"),
    (
        WITH_AUDIT,
        "CREATE TEMP TABLE audit_leaves (leaf INTEGER, kind TEXT, subject TEXT, format INTEGER, digest BLOB, at TEXT);
         CREATE TEMP TABLE audit_head (only_row INTEGER, size INTEGER, peaks BLOB)",
    ),
    (
        4,
        "CREATE TEMP TABLE documents
         (app TEXT, environment TEXT, name TEXT, written_ms INTEGER, format INTEGER, json TEXT)",
    ),
];

/// What makes up the tables that a format lacks.
pub(super) fn for_readers(found: i64) -> impl Iterator<Item = &'static &'static str> {
    READ_SINCE.iter().filter(move |(since, _)| found < *since).map(|(_, sql)| sql)
}

/// Brings the file to the newest format: each step whole or not at all, the number with it.
pub(super) async fn run(
    state: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), LedgerError> {
    while step(state, connection).await? {}
    Ok(())
}

/// One step; false if there is none left.
async fn step(state: &Path, connection: &mut SqliteConnection) -> Result<bool, LedgerError> {
    let failed = |error: sqlx::Error| ledger_error(state, &error);
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    // Read under the lock: another process may have migrated meanwhile.
    let found: i64 = sqlx::query("PRAGMA user_version")
        .fetch_one(&mut *transaction)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    let Some(sql) = usize::try_from(found).ok().and_then(|index| MIGRATIONS.get(index)) else {
        transaction.rollback().await.map_err(failed)?;
        return Ok(false);
    };
    sqlx::raw_sql(*sql).execute(&mut *transaction).await.map_err(failed)?;
    if found + 1 == WITH_AUDIT {
        audit_migration::run(state, &mut transaction).await?;
    }
    let number = format!("PRAGMA user_version = {}", found + 1);
    sqlx::raw_sql(sqlx::AssertSqlSafe(number)).execute(&mut *transaction).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(true)
}
