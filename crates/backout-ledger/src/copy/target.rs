//! The database that a ledger is copied into.

use async_trait::async_trait;
use backout_core::ids::LedgerId;
use backout_core::ports::LedgerError;
use sqlx::{AssertSqlSafe, PgConnection};

use super::CopyError;
use super::tables::TABLES;
use crate::postgres::copying::{Reply, connect, migrate, run, within};
use crate::postgres::{DatabaseUrl, Limits};
use crate::records::codec::{column, unsigned};
use crate::records::store::{Look, Row, Statement};
use crate::sqlite::OpenMode;

/// Only one copy at a time goes into a database; "copy" in ASCII.
const LOCK: i64 = 0x636f_7079;

/// A connection, and what is written over it.
pub(super) struct Target {
    url: DatabaseUrl,
    limits: Limits,
    connection: PgConnection,
}

/// What the database says of the ledger in it.
pub(super) struct Known {
    pub(super) id: String,
    /// Set until the copy is whole.
    pub(super) copying_from: Option<String>,
    empty: bool,
}

impl Target {
    /// Connects and makes the tables.
    pub(super) async fn open(url: &DatabaseUrl) -> Result<Self, CopyError> {
        let limits = Limits::default();
        let failed = |failure: crate::postgres::copying::Failure| failure.meaning(url);
        let connection = connect(url, OpenMode::ReadWrite, &limits).await.map_err(failed)?;
        let mut target = Self { url: url.clone(), limits, connection };
        let alone =
            format!("SELECT CAST(pg_try_advisory_lock({LOCK}) AS INT) + 0::BIGINT AS alone");
        let row = target.first(Statement::new(alone)).await?;
        if row.is_none_or(|row| unsigned("a lock", &row, "alone") != Ok(1)) {
            return Err(CopyError::Refused(format!("another copy into {url} is under way")));
        }
        let found = crate::postgres::copying::found(&mut target.connection, &target.limits)
            .await
            .map_err(|failure| failure.meaning(url))?;
        match found {
            Some(format) if format > crate::postgres::copying::SUPPORTED => {
                let supported = crate::postgres::copying::SUPPORTED;
                return Err(LedgerError::NewerFormat { found: format, supported }.into());
            }
            Some(crate::postgres::copying::SUPPORTED) => {}
            _ => migrate(&mut target.connection, url, &target.limits).await?,
        }
        Ok(target)
    }

    pub(super) async fn known(&mut self) -> Result<Known, LedgerError> {
        let what = "the ledger of the target";
        let row = self
            .first(Statement::new("SELECT id, copying_from FROM ledger WHERE only_row = 1"))
            .await?
            .ok_or_else(|| crate::records::codec::corrupt(what, &"its row is missing"))?;
        let (id, copying_from) =
            (column(what, &row, "id")?, column::<Option<String>>(what, &row, "copying_from")?);
        let mut empty = true;
        // A ledger has two leaves of its own at most: who it is, and a remark.
        for table in TABLES.iter().filter(|table| !table.name.starts_with("audit_")) {
            let count = format!("SELECT count(*) AS found FROM {}", table.name);
            let row = self.first(Statement::new(count)).await?;
            empty &= row.is_some_and(|row| unsigned(what, &row, "found") == Ok(0));
        }
        Ok(Known { id, copying_from, empty })
    }

    /// Empties it, and says whose copy it becomes.
    pub(super) async fn begin(
        &mut self,
        identity: &Identity,
        from: &str,
    ) -> Result<(), LedgerError> {
        let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        self.raw(format!("BEGIN; TRUNCATE {}, controllers, writers", names.join(", "))).await?;
        let statement = Statement::new(
            "UPDATE ledger SET id = $1, hash_key = $2, created_at = $3, copying_from = $4 WHERE only_row = 1",
        )
        .bind(identity.id.as_str())
        .bind(&identity.hash_key[..])
        .bind(identity.created_at.as_str())
        .bind(from);
        self.execute(statement).await?;
        self.raw("COMMIT".to_owned()).await
    }

    /// From now on it is a ledger.
    pub(super) async fn finish(&mut self) -> Result<(), LedgerError> {
        self.execute(Statement::new("UPDATE ledger SET copying_from = NULL WHERE only_row = 1"))
            .await
    }

    /// What it counts up by itself goes on where the copy ends.
    pub(super) async fn count_on(&mut self) -> Result<(), LedgerError> {
        for table in TABLES {
            let Some(column) = table.counted else { continue };
            let name = table.name;
            self.raw(format!(
                "SELECT setval(pg_get_serial_sequence('{name}', '{column}'),
                               coalesce(max({column}), 0) + 1, false) FROM {name}"
            ))
            .await?;
        }
        Ok(())
    }

    pub(super) async fn execute(&mut self, statement: Statement) -> Result<(), LedgerError> {
        self.ask(statement).await.map(|_| ())
    }

    async fn first(&mut self, statement: Statement) -> Result<Option<Row>, LedgerError> {
        Ok(self.ask(statement).await?.first())
    }

    async fn ask(&mut self, statement: Statement) -> Result<Reply, LedgerError> {
        run(&mut self.connection, statement.large(), &self.limits)
            .await
            .map_err(|failure| failure.meaning(&self.url))
    }

    async fn raw(&mut self, sql: String) -> Result<(), LedgerError> {
        let ran = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection);
        within(self.limits.large, ran)
            .await
            .map(|_| ())
            .map_err(|failure| failure.meaning(&self.url))
    }
}

impl Known {
    /// Whether something is there that a copy would destroy.
    pub(super) fn is_free(&self) -> bool {
        self.empty && self.copying_from.is_none()
    }
}

/// Who a ledger is: the copy is the same one.
pub(super) struct Identity {
    pub(super) id: LedgerId,
    pub(super) hash_key: Vec<u8>,
    pub(super) created_at: String,
}

#[async_trait]
impl Look for Target {
    async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<Row>, LedgerError> {
        Ok(self.ask(statement).await?.all())
    }

    async fn end(self: Box<Self>) -> Result<(), LedgerError> {
        Ok(())
    }
}
