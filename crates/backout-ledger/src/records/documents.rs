//! Small documents beside the history: the newest of each name, and a bounded number of them.

use backout_core::ids::EnvironmentKey;
use backout_core::ports::LedgerError;
use jiff::Timestamp;
use serde_json::Value;

use super::codec::{RECORD_FORMAT, decode, encode};
use super::store::{Statement, Store};

/// Of one environment; those written longest ago go.
const MAX_DOCUMENTS: i64 = 200;
const MAX_BYTES: usize = 256 << 10;

pub(super) async fn document(
    store: &dyn Store,
    key: &EnvironmentKey,
    name: &str,
) -> Result<Option<Value>, LedgerError> {
    let statement = Statement::new(
        "SELECT format, json FROM documents WHERE app = $1 AND environment = $2 AND name = $3",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(name);
    let row = store.fetch_optional(statement).await?;
    row.map(|row| decode(&format!("document {name} of {key}"), &row, RECORD_FORMAT)).transpose()
}

pub(super) async fn put(
    store: &dyn Store,
    key: &EnvironmentKey,
    name: &str,
    document: &Value,
) -> Result<(), LedgerError> {
    let json = encode("a document", document)?;
    if json.len() > MAX_BYTES {
        let message = format!("document {name} of {} bytes is larger than {MAX_BYTES}", json.len());
        return Err(LedgerError::Unavailable(message));
    }
    let statement = Statement::new(
        "INSERT INTO documents (app, environment, name, written_ms, format, json) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (app, environment, name)
         DO UPDATE SET written_ms = excluded.written_ms, format = excluded.format, json = excluded.json",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(name)
    .bind(Timestamp::now().as_millisecond())
    .bind(RECORD_FORMAT)
    .bind(json.as_str());
    store.execute(statement).await?;
    let statement = Statement::new(
        "DELETE FROM documents WHERE app = $1 AND environment = $2 AND name NOT IN
         (SELECT name FROM documents WHERE app = $1 AND environment = $2 ORDER BY written_ms DESC, name DESC LIMIT $3)",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(MAX_DOCUMENTS);
    store.execute(statement).await.map(drop)
}
