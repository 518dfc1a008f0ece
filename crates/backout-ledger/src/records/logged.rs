//! A transaction that also keeps the audit log: what it wrote and logged is there with its commit, or not at all.

use backout_core::ports::LedgerError;
use backout_core::ports::audit::AuditKind;

use super::audit;
use super::store::{Row, Statement, Store, Write};
use crate::audit::Pending;
use crate::surroundings::Surroundings;

/// A transaction. Dropped, it is undone.
pub(super) struct Logged<'a> {
    write: Box<dyn Write + 'a>,
    pending: Pending,
}

impl<'a> Logged<'a> {
    pub(super) async fn begin(store: &'a dyn Store) -> Result<Self, LedgerError> {
        Ok(Self { write: store.begin().await?, pending: Pending::default() })
    }

    pub(super) async fn execute(&mut self, statement: Statement) -> Result<u64, LedgerError> {
        self.write.execute(statement).await
    }

    pub(super) async fn fetch_optional(
        &mut self,
        statement: Statement,
    ) -> Result<Option<Row>, LedgerError> {
        self.write.fetch_optional(statement).await
    }

    pub(super) fn now_ms(&self, here: &dyn Surroundings) -> u64 {
        self.write.now_ms(here)
    }

    /// Says what was written, for the audit log: `json` exactly as it is stored.
    pub(super) fn log(
        &mut self,
        kind: AuditKind,
        subject: impl Into<String>,
        format: u32,
        json: &str,
    ) {
        self.pending.push(kind, subject, format, json);
    }

    /// Durable on return; on an error nothing was written.
    pub(super) async fn commit(mut self) -> Result<(), LedgerError> {
        match audit::append(self.write.as_mut(), self.pending).await {
            Ok(()) => self.write.commit().await,
            Err(error) => {
                self.write.rollback().await;
                Err(error)
            }
        }
    }

    /// Nothing was written.
    pub(super) async fn rollback(self) {
        self.write.rollback().await;
    }
}
