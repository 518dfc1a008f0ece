//! The ledger's file, changed behind its back.

use std::fs;
use std::path::Path;

use backout_core::saga::Entry;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row as _, SqliteConnection};

fn on_file<T>(state: &Path, run: impl AsyncFnOnce(&mut SqliteConnection) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(state.join("ledger.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .foreign_keys(false);
        let mut connection = options.connect().await.unwrap();
        let result = run(&mut connection).await;
        connection.close().await.unwrap();
        result
    })
}

/// Runs one statement. Fails the test if it changes nothing.
#[track_caller]
pub fn change(state: &Path, sql: &str) {
    let changed = on_file(state, async |connection| {
        let done = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
        done.rows_affected()
    });
    assert!(changed > 0, "{sql} changed nothing");
}

/// Runs statements that count no rows, such as a pragma or a whole dump.
pub fn run(state: &Path, sql: &str) {
    on_file(state, async |connection| {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
    });
}

/// Every entry of every journal, in the order in which they were written, with its operation.
pub fn entries(state: &Path) -> Vec<(String, Entry)> {
    let sql = "SELECT operation, json FROM entries ORDER BY id";
    let rows =
        on_file(state, async |connection| sqlx::query(sql).fetch_all(connection).await.unwrap());
    let read = |row: &sqlx::sqlite::SqliteRow| {
        (row.get("operation"), serde_json::from_str(row.get("json")).unwrap())
    };
    rows.iter().map(read).collect()
}

/// A state folder with the ledger of a dump.
pub fn restore(state: &Path, dump: &str) {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(state).unwrap();
    run(state, dump);
}

/// The file and its log, to be put back later.
pub fn copy(state: &Path, to: &Path) {
    run(state, "PRAGMA wal_checkpoint(TRUNCATE)");
    fs::copy(state.join("ledger.db"), to).unwrap();
}

/// Puts a copy back.
pub fn put_back(state: &Path, from: &Path) {
    for file in ["ledger.db-wal", "ledger.db-shm"] {
        let _ = fs::remove_file(state.join(file));
    }
    fs::copy(from, state.join("ledger.db")).unwrap();
}
