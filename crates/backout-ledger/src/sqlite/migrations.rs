//! The formats of the file, by `PRAGMA user_version`.

use std::path::Path;

use backout_core::ports::LedgerError;
use sqlx::{Connection, Row, SqliteConnection};

use super::error::ledger_error;

/// What each format adds, the first one first.
const MIGRATIONS: &[&str] = &[include_str!("../../migrations/sqlite/0001_ledger.sql")];

/// Newest format that this version reads and writes.
pub(super) const SUPPORTED: i64 = MIGRATIONS.len() as i64;

/// Brings the file to the newest format: each step whole or not at all, the number with it.
pub(super) async fn run(
    state: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), LedgerError> {
    run_all(connection).await.map_err(|error| ledger_error(state, &error))
}

async fn run_all(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    loop {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        // Read under the lock: another process may have migrated meanwhile.
        let found: i64 =
            sqlx::query("PRAGMA user_version").fetch_one(&mut *transaction).await?.try_get(0)?;
        let Some(sql) = usize::try_from(found).ok().and_then(|index| MIGRATIONS.get(index)) else {
            return transaction.rollback().await;
        };
        sqlx::raw_sql(*sql).execute(&mut *transaction).await?;
        let number = format!("PRAGMA user_version = {}", found + 1);
        sqlx::raw_sql(sqlx::AssertSqlSafe(number)).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
}
