//! The formats of the tables, by the number in the row of `ledger`.

use async_trait::async_trait;
use backout_core::ids::LedgerId;
use backout_core::ports::LedgerError;
use backout_core::ports::audit::{AUDIT_PLAIN_FORMAT, AuditKind, audit_identity};
use sqlx::{AssertSqlSafe, PgConnection};

use super::server::{Reply, run as run_statement, within};
use super::url::DatabaseUrl;
use super::{Limits, SCHEMA};
use crate::audit::Pending;
use crate::entropy::random;
use crate::records::audit;
use crate::records::codec::{column, corrupt, unsigned};
use crate::records::store::{Row, Statement, Write};
use crate::surroundings::Surroundings;

/// What each format adds, the first one first.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/postgres/0001_ledger.sql"),
    include_str!("../../migrations/postgres/0002_documents.sql"),
];

/// Newest format that this version reads and writes.
pub(crate) const SUPPORTED: i64 = MIGRATIONS.len() as i64;

/// Only one process at a time brings a database up to date; "backout" in ASCII.
const LOCK: i64 = 0x0062_6163_6b6f_7574;

/// Brings the tables to the newest format, whole or not at all, and gives a new ledger its identity.
pub(crate) async fn run(
    connection: &mut PgConnection,
    url: &DatabaseUrl,
    limits: &Limits,
) -> Result<(), LedgerError> {
    let mut inside = Inside { connection, url, limits };
    inside.raw(format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await?;
    // Looked at under the lock: another process may have been here meanwhile.
    match inside.format().await? {
        Some(format) => {
            inside.add_since(format).await?;
            // A newer one stays what it is.
            let raise =
                format!("UPDATE ledger SET format = {SUPPORTED} WHERE format < {SUPPORTED}");
            inside.raw(raise).await?;
        }
        None => {
            inside.create_schema().await?;
            inside.add_since(0).await?;
            inside.write_identity().await?;
        }
    }
    inside.raw("COMMIT".to_owned()).await
}

/// The transaction of a migration.
struct Inside<'a> {
    connection: &'a mut PgConnection,
    url: &'a DatabaseUrl,
    limits: &'a Limits,
}

impl Inside<'_> {
    async fn raw(&mut self, sql: String) -> Result<(), LedgerError> {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *self.connection);
        within(self.limits.large, statement)
            .await
            .map(|_| ())
            .map_err(|failure| failure.meaning(self.url))
    }

    async fn ask(&mut self, statement: Statement) -> Result<Reply, LedgerError> {
        run_statement(self.connection, statement, self.limits)
            .await
            .map_err(|failure| failure.meaning(self.url))
    }

    async fn format(&mut self) -> Result<Option<i64>, LedgerError> {
        let statement = Statement::new(
            "SELECT count(*) AS found FROM pg_tables WHERE schemaname = $1 AND tablename = 'ledger'",
        )
        .bind(SCHEMA);
        let what = "the ledger's format";
        let row = self.fetch_optional(statement).await?;
        if row.map_or(Ok(0), |row| unsigned(what, &row, "found"))? == 0 {
            return Ok(None);
        }
        let statement = Statement::new("SELECT format FROM ledger WHERE only_row = 1");
        let row = self.fetch_optional(statement).await?;
        let row = row.ok_or_else(|| corrupt(what, &"its row is missing"))?;
        column(what, &row, "format").map(Some)
    }

    async fn add_since(&mut self, format: i64) -> Result<(), LedgerError> {
        let from = usize::try_from(format).unwrap_or(usize::MAX);
        for sql in MIGRATIONS.iter().skip(from) {
            self.raw((*sql).to_owned()).await?;
        }
        Ok(())
    }

    /// An administrator may have made the schema, and let us make no other.
    async fn create_schema(&mut self) -> Result<(), LedgerError> {
        let statement = Statement::new(
            "SELECT current_setting('server_encoding') AS encoding,
                    (SELECT count(*) FROM pg_namespace WHERE nspname = $1) AS schemas",
        )
        .bind(SCHEMA);
        let what = "the database's settings";
        let row = self.fetch_optional(statement).await?;
        let row = row.ok_or_else(|| corrupt(what, &"there are none"))?;
        let encoding: String = column(what, &row, "encoding")?;
        if encoding != "UTF8" {
            let message = format!(
                "{} has the encoding {encoding}; create it with `createdb --encoding UTF8 --template template0`",
                self.url
            );
            return Err(LedgerError::Unavailable(message));
        }
        if unsigned(what, &row, "schemas")? == 0 {
            self.raw(format!("CREATE SCHEMA {SCHEMA}")).await?;
        }
        Ok(())
    }

    async fn write_identity(&mut self) -> Result<(), LedgerError> {
        let failed = |error: std::io::Error| {
            LedgerError::Unavailable(format!("failed to make a ledger's identity: {error}"))
        };
        let id = LedgerId::from_entropy(random::<12>().map_err(failed)?);
        let created_at = jiff::Timestamp::now().to_string();
        let statement = Statement::new(
            "INSERT INTO ledger (only_row, id, hash_key, created_at, format) VALUES (1, $1, $2, $3, $4)",
        )
        .bind(id.as_str())
        .bind(random::<32>().map_err(failed)?.to_vec())
        .bind(created_at.as_str())
        .bind(SUPPORTED);
        self.execute(statement).await?;
        let mut pending = Pending::default();
        let json = audit_identity(id.as_str(), &created_at);
        pending.push(AuditKind::Ledger, id.as_str(), AUDIT_PLAIN_FORMAT, &json);
        audit::append(self, pending).await?;
        tracing::info!(database = %self.url, ledger = %id, "created a ledger");
        Ok(())
    }
}

#[async_trait]
impl Write for Inside<'_> {
    async fn execute(&mut self, statement: Statement) -> Result<u64, LedgerError> {
        Ok(self.ask(statement).await?.changed)
    }

    async fn fetch_optional(&mut self, statement: Statement) -> Result<Option<Row>, LedgerError> {
        Ok(self.ask(statement).await?.first())
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
