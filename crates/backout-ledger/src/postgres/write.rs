//! A transaction that writes, and what became of it when its last answer is lost.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use backout_core::ports::LedgerError;

use super::error::Failure;
use super::server::{Held, Reply, Server, run, within};
use crate::records::store::{Row, Statement, Write};
use crate::surroundings::Surroundings;

/// A transaction under the lock of all writers. Dropped, it is undone, unless its COMMIT was on the way: what comes
/// next on this ledger waits for that.
pub(super) struct ServerWrite<'a> {
    server: &'a Server,
    held: Held<'a>,
    mark: i64,
    now_ms: u64,
    failed: bool,
}

impl<'a> ServerWrite<'a> {
    pub(super) fn new(server: &'a Server, held: Held<'a>, mark: i64, now_ms: u64) -> Self {
        Self { server, held, mark, now_ms, failed: false }
    }

    async fn run(&mut self, statement: Statement) -> Result<Reply, LedgerError> {
        let reply = run(self.held.connection()?, statement, &self.server.limits).await;
        reply.map_err(|failure| {
            self.failed = true;
            if !failure.leaves_connection() {
                self.held.cut();
            }
            // Without its COMMIT it is undone, whenever the server notices.
            self.server.cut.store(failure.is_cut(), Ordering::Relaxed);
            self.server.meaning(&failure)
        })
    }

    async fn end(&mut self, sql: &'static str) -> Result<(), Failure> {
        let Ok(connection) = self.held.connection() else {
            return Err(Failure::Sql(sqlx::Error::WorkerCrashed));
        };
        let ended = sqlx::raw_sql(sql).execute(connection);
        within(self.server.limits.statement, ended).await.map(|_| ())
    }
}

#[async_trait]
impl Write for ServerWrite<'_> {
    async fn execute(&mut self, statement: Statement) -> Result<u64, LedgerError> {
        Ok(self.run(statement).await?.changed)
    }

    async fn fetch_optional(&mut self, statement: Statement) -> Result<Option<Row>, LedgerError> {
        Ok(self.run(statement).await?.first())
    }

    fn now_ms(&self, _: &dyn Surroundings) -> u64 {
        self.now_ms
    }

    async fn commit(mut self: Box<Self>) -> Result<(), LedgerError> {
        if self.failed {
            // The server would take a COMMIT for a ROLLBACK, and say that all is well.
            self.rollback().await;
            let message = "refused to commit after a statement that failed".to_owned();
            return Err(LedgerError::Unavailable(message));
        }
        let failure = match self.end("COMMIT").await {
            Ok(()) => {
                self.held.give_back();
                return Ok(());
            }
            Err(failure) => failure,
        };
        // Said by the server about its COMMIT: it was undone. Anything else may have come after it.
        if failure.leaves_connection() {
            self.held.cut();
            return Err(self.server.meaning(&failure));
        }
        self.held.cut();
        let lost = self.server.meaning(&failure);
        tracing::debug!(error = %lost, "looking for a commit that got no answer");
        match self.server.find_commit(self.mark).await {
            Ok((connection, there)) => {
                self.held.replace(connection);
                self.held.give_back();
                self.server.cut.store(!there, Ordering::Relaxed);
                if there { Ok(()) } else { Err(lost) }
            }
            Err(error) => Err(LedgerError::Unavailable(format!(
                "the connection was lost during a commit, and whether it was written is not known yet ({error}); \
                 the next command sees it"
            ))),
        }
    }

    async fn rollback(mut self: Box<Self>) {
        // Without a connection the server has undone it already, or does when it notices.
        if !self.held.is_cut() && self.end("ROLLBACK").await.is_ok() {
            self.held.give_back();
        }
    }
}
