//! A ledger that was moved into a database: what says so in its file, and keeps everybody from writing into it, also
//! those who have it open, and programs of an older version.

use std::path::Path;

use backout_core::ports::LedgerError;
use sqlx::{Row as _, SqliteConnection};

use super::database::SqliteWrite;
use super::error::{OpenError, ledger_error};
use crate::records::codec::column;
use crate::records::store::{Statement, Write as _};

/// There once a ledger was moved.
const TABLE: &str = "moved";

const IS_THERE: &str =
    "SELECT count(*) AS found FROM sqlite_schema WHERE type = 'table' AND name = 'moved'";

/// Refuses a ledger that was moved.
pub(super) async fn refuse(
    state: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), OpenError> {
    let failed = |error: sqlx::Error| ledger_error(state, &error);
    let row = sqlx::query(IS_THERE).fetch_one(&mut *connection).await.map_err(failed)?;
    if row.try_get::<i64, _>("found").map_err(failed)? == 0 {
        return Ok(());
    }
    let row = sqlx::query("SELECT database FROM moved WHERE only_row = 1")
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    let database = row.try_get("database").map_err(failed)?;
    Err(OpenError::Moved { folder: state.to_owned(), database })
}

/// Where it was moved to, if it was.
pub(crate) async fn moved_to(write: &mut SqliteWrite<'_>) -> Result<Option<String>, LedgerError> {
    let what = "where the ledger was moved to";
    let row = write.fetch_optional(Statement::new(IS_THERE)).await?;
    if row.map_or(Ok(0), |row| column::<i64>(what, &row, "found"))? == 0 {
        return Ok(None);
    }
    let statement = Statement::new("SELECT database FROM moved WHERE only_row = 1");
    let row = write.fetch_optional(statement).await?;
    row.map(|row| column(what, &row, "database")).transpose()
}

/// Marks it as moved, with the commit of this transaction. Nothing is written into these tables from then on.
pub(crate) async fn mark_moved(
    write: &mut SqliteWrite<'_>,
    database: &str,
    tables: &[&'static str],
) -> Result<(), LedgerError> {
    if moved_to(write).await?.is_some() {
        return Ok(());
    }
    write
        .execute(Statement::new(format!(
            "CREATE TABLE {TABLE} (
                 only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
                 database TEXT NOT NULL,
                 at       TEXT NOT NULL
             ) STRICT"
        )))
        .await?;
    let statement =
        Statement::new(format!("INSERT INTO {TABLE} (only_row, database, at) VALUES (1, $1, $2)"))
            .bind(database)
            .bind(jiff::Timestamp::now().to_string());
    write.execute(statement).await?;
    for table in tables {
        for change in ["insert", "update", "delete"] {
            let trigger = format!(
                "CREATE TRIGGER moved_{table}_{change} BEFORE {change} ON {table}
                 BEGIN SELECT RAISE(ABORT, 'this ledger was moved into a database'); END"
            );
            write.execute(Statement::new(trigger)).await?;
        }
    }
    Ok(())
}
