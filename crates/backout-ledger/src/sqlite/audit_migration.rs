//! From the chain of hashes over entries to the audit log over everything.

use std::path::Path;

use async_trait::async_trait;
use backout_core::ids::LedgerId;
use backout_core::ports::LedgerError;
use backout_core::ports::audit::{
    AUDIT_PLAIN_FORMAT, AuditHead, AuditKind, AuditLeaf, AuditRecord, AuditVisitor, audit_identity,
};
use sqlx::{Row as _, SqliteConnection};

use super::database::{boxed, prepare};
use super::error::ledger_error;
use crate::audit::Pending;
use crate::chain::{self, Link};
use crate::records::audit;
use crate::records::store::{Look, Row, Statement, Write};
use crate::surroundings::Surroundings;

/// Entries of the chain that are read at once.
const PAGE: i64 = 1000;

/// Logs everything that is there, in the transaction that is open; then the chain goes. What the chain said of
/// the entries is kept as a remark where it was broken: a move must not cover it.
pub(super) async fn run(
    state: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), LedgerError> {
    let failed = |error: sqlx::Error| ledger_error(state, &error);
    let mut everything = Everything::default();
    let identity = sqlx::query("SELECT id, created_at FROM ledger WHERE only_row = 1")
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    // A new ledger gets its identity later.
    if let Some(row) = identity {
        let (id, created_at): (String, String) =
            (row.try_get("id").map_err(failed)?, row.try_get("created_at").map_err(failed)?);
        log_identity(&mut everything.0, &id, &created_at);
    }
    if let Some(broken) = broken_chain(connection).await.map_err(failed)? {
        tracing::warn!("{broken}");
        everything.0.push(AuditKind::Note, broken, AUDIT_PLAIN_FORMAT, "");
    }
    let mut inside = Inside { state, connection };
    for kind in AuditKind::ALL {
        audit::scan_kind(&mut inside, kind, &mut everything).await?;
    }
    audit::append(&mut inside, everything.0).await?;
    let drop = sqlx::raw_sql("ALTER TABLE entries DROP COLUMN hash");
    drop.execute(connection).await.map_err(failed)?;
    Ok(())
}

/// For a ledger that is being made.
pub(super) async fn begin_log(
    state: &Path,
    connection: &mut SqliteConnection,
    id: &str,
    created_at: &str,
) -> Result<(), LedgerError> {
    let mut pending = Pending::default();
    log_identity(&mut pending, id, created_at);
    audit::append(&mut Inside { state, connection }, pending).await
}

fn log_identity(pending: &mut Pending, id: &str, created_at: &str) {
    let json = audit_identity(id, created_at);
    pending.push(AuditKind::Ledger, id, AUDIT_PLAIN_FORMAT, &json);
}

/// Where the chain of format 1 breaks.
async fn broken_chain(connection: &mut SqliteConnection) -> Result<Option<String>, sqlx::Error> {
    let (mut last_id, mut hash) = (i64::MIN, chain::GENESIS.to_vec());
    loop {
        let rows = sqlx::query(
            "SELECT id, operation, sequence, epoch, json, hash FROM entries WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(last_id)
        .bind(PAGE)
        .fetch_all(&mut *connection)
        .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        for row in &rows {
            last_id = row.try_get("id")?;
            let (operation, json): (String, String) =
                (row.try_get("operation")?, row.try_get("json")?);
            let (sequence, epoch): (i64, i64) = (row.try_get("sequence")?, row.try_get("epoch")?);
            let link = Link {
                operation: &operation,
                sequence: sequence.cast_unsigned(),
                epoch: epoch.cast_unsigned(),
                json: &json,
            };
            hash = chain::next(&hash, &link).to_vec();
            if hash != row.try_get::<Vec<u8>, _>("hash")? {
                return Ok(Some(format!(
                    "when this log began, the chain of hashes before it was broken at entry {sequence} of {operation}"
                )));
            }
        }
    }
}

/// Every record as a leaf.
#[derive(Default)]
struct Everything(Pending);

impl AuditVisitor for Everything {
    fn head(&mut self, _: &LedgerId, _: AuditHead) {}

    fn leaf(&mut self, _: AuditLeaf) {}

    fn record(&mut self, record: AuditRecord) {
        self.0.push(record.kind, record.subject, record.format, &record.json);
    }
}

/// The transaction of a migration.
struct Inside<'a> {
    state: &'a Path,
    connection: &'a mut SqliteConnection,
}

#[async_trait]
impl Look for Inside<'_> {
    async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<Row>, LedgerError> {
        let rows = prepare(statement)
            .fetch_all(&mut *self.connection)
            .await
            .map_err(|error| ledger_error(self.state, &error))?;
        Ok(rows.into_iter().map(boxed).collect())
    }

    async fn end(self: Box<Self>) -> Result<(), LedgerError> {
        Ok(())
    }
}

#[async_trait]
impl Write for Inside<'_> {
    async fn execute(&mut self, statement: Statement) -> Result<u64, LedgerError> {
        let done = prepare(statement)
            .execute(&mut *self.connection)
            .await
            .map_err(|error| ledger_error(self.state, &error))?;
        Ok(done.rows_affected())
    }

    async fn fetch_optional(&mut self, statement: Statement) -> Result<Option<Row>, LedgerError> {
        prepare(statement)
            .fetch_optional(&mut *self.connection)
            .await
            .map(|row| row.map(boxed))
            .map_err(|error| ledger_error(self.state, &error))
    }

    fn now_ms(&self, here: &dyn Surroundings) -> u64 {
        here.boottime_ms()
    }

    /// Whoever began the transaction ends it.
    async fn commit(self: Box<Self>) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn rollback(self: Box<Self>) {}
}
