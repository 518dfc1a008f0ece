//! The one connection to the server. Whatever fails or is dropped half-way costs the connection; what follows waits
//! until the server is through with it, and so sees what became of it. Every wait is bounded.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ids::hex;
use backout_core::ports::LedgerError;
use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{
    AssertSqlSafe, Connection as _, Either, Executor as _, PgConnection, Postgres, Row as _,
};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout};

use super::error::Failure;
use super::url::DatabaseUrl;
use super::write::ServerWrite;
use super::{Limits, connect, migrations};
use crate::records::codec::unsigned;
use crate::records::store::{Look, Row, Statement, Store, Write, driver};
use crate::sqlite::{OpenError, OpenMode};
use crate::surroundings::Surroundings;

/// Further tries of what can be done twice, after its connection was cut.
pub(super) const RETRIES: u32 = 4;

/// Between two questions for the same commit.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Gets through only when nobody writes.
const SETTLE: &str = "BEGIN; SELECT 1 FROM ledger WHERE only_row = 1 FOR UPDATE; ROLLBACK";

/// Everything as of one moment.
const LOOK: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

driver!(Postgres, PgArguments, PgRow);

/// Waits no longer than this for a reply.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    match timeout(limit, work).await {
        Ok(result) => result.map_err(Failure::Sql),
        Err(_) => Err(Failure::Silent(limit)),
    }
}

/// What a statement brought.
pub(crate) struct Reply {
    rows: Vec<PgRow>,
    pub(crate) changed: u64,
}

impl Reply {
    pub(crate) fn first(self) -> Option<Row> {
        self.rows.into_iter().next().map(boxed)
    }

    pub(crate) fn all(self) -> Vec<Row> {
        self.rows.into_iter().map(boxed).collect()
    }
}

/// Runs one statement. The limit is between two signs of life, so that long lists may take longer.
pub(crate) async fn run(
    connection: &mut PgConnection,
    statement: Statement,
    limits: &Limits,
) -> Result<Reply, Failure> {
    let limit = if statement.is_large() { limits.large } else { limits.statement };
    let mut replies = connection.fetch_many(prepare(statement));
    let mut reply = Reply { rows: Vec::new(), changed: 0 };
    while let Some(part) = within(limit, replies.try_next()).await? {
        match part {
            Either::Left(done) => reply.changed += done.rows_affected(),
            Either::Right(row) => reply.rows.push(row),
        }
    }
    Ok(reply)
}

/// Where the connection rests between two calls.
#[derive(Default)]
pub(super) struct Home {
    connection: Option<PgConnection>,
    /// A transaction may still be at work on a connection that is gone from here.
    unsettled: bool,
}

/// The database and the connection to it.
pub struct Server {
    pub(super) url: DatabaseUrl,
    pub(super) mode: OpenMode,
    pub(super) limits: Limits,
    /// Under this name the server keeps what this value committed last.
    writer: String,
    commits: AtomicI64,
    /// The last transaction was cut and is undone.
    pub(super) cut: AtomicBool,
    home: Mutex<Home>,
}

impl Server {
    pub(super) async fn open(
        url: &DatabaseUrl,
        mode: OpenMode,
        limits: Limits,
    ) -> Result<Self, OpenError> {
        let writer = crate::entropy::random::<12>()
            .map_err(|error| LedgerError::Unavailable(format!("failed to start: {error}")))?;
        let patience = connect::Patience::Starting;
        let connection = connect::open_patiently(url, mode, &limits, patience).await?;
        Ok(Self {
            url: url.clone(),
            mode,
            limits,
            writer: hex(&writer),
            commits: AtomicI64::new(0),
            cut: AtomicBool::new(false),
            home: Mutex::new(Home { connection: Some(connection), unsettled: false }),
        })
    }

    pub(super) fn meaning(&self, failure: &Failure) -> LedgerError {
        failure.meaning(&self.url)
    }

    /// The connection, made again if the last one was lost.
    pub(super) async fn hold(&self) -> Result<Held<'_>, LedgerError> {
        let mut home = self.home.lock().await;
        let mut connection = match home.connection.take() {
            Some(connection) => connection,
            None => self.connect_again().await?,
        };
        if home.unsettled {
            within(self.limits.settle, sqlx::raw_sql(SETTLE).execute(&mut connection))
                .await
                .map_err(|failure| self.meaning(&failure))?;
            home.unsettled = false;
        }
        Ok(Held { home, connection: Some(connection) })
    }

    /// A server that restarts is back in a moment.
    async fn connect_again(&self) -> Result<PgConnection, LedgerError> {
        connect::open_patiently(&self.url, self.mode, &self.limits, connect::Patience::Cut)
            .await
            .map_err(OpenError::into_ledger_error)
    }

    /// Runs what does no harm when it is done twice.
    async fn repeatable(&self, statement: Statement) -> Result<Reply, LedgerError> {
        let mut tries = 0;
        loop {
            let mut held = self.hold().await?;
            match run(held.connection()?, statement.clone(), &self.limits).await {
                Ok(reply) => {
                    held.give_back();
                    return Ok(reply);
                }
                Err(failure) if failure.is_cut() && tries < RETRIES => tries += 1,
                Err(failure) => {
                    if failure.leaves_connection() {
                        held.give_back();
                    }
                    return Err(self.meaning(&failure));
                }
            }
        }
    }

    /// Begins alone: takes the lock of all writers, and leaves a mark by which the commit can be found again.
    async fn begin_writing(&self) -> Result<ServerWrite<'_>, LedgerError> {
        self.cut.store(false, Ordering::Relaxed);
        let mut tries = 0;
        loop {
            let mark = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
            let mut held = self.hold().await?;
            held.home.unsettled = true;
            match within(self.limits.statement, self.lock(held.connection()?, mark)).await {
                Ok((found, now_ms)) if found <= migrations::SUPPORTED => {
                    return Ok(ServerWrite::new(self, held, mark, now_ms));
                }
                Ok((found, _)) => {
                    let supported = migrations::SUPPORTED;
                    return Err(LedgerError::NewerFormat { found, supported });
                }
                Err(failure) if failure.is_cut() && tries < RETRIES => tries += 1,
                Err(failure) => return Err(self.meaning(&failure)),
            }
        }
    }

    /// The format that is found, and the time.
    async fn lock(
        &self,
        connection: &mut PgConnection,
        mark: i64,
    ) -> Result<(i64, u64), sqlx::Error> {
        // Once by each writer: nobody asks for what a process committed a day ago.
        let tidy = match mark {
            1 => "DELETE FROM writers WHERE seen_ms < now_ms() - 86400000;",
            _ => "",
        };
        // One message: the server does it all before it answers. `writer` is hexadecimal.
        let sql = format!(
            "BEGIN;
             SELECT 1 FROM ledger WHERE only_row = 1 FOR UPDATE;
             {tidy}
             INSERT INTO writers (id, last, seen_ms) VALUES ('{}', {mark}, now_ms())
                 ON CONFLICT (id) DO UPDATE SET last = excluded.last, seen_ms = excluded.seen_ms;
             SELECT format, now_ms() AS now_ms FROM ledger WHERE only_row = 1",
            self.writer
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await?;
        let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
        let now_ms: i64 = row.try_get("now_ms")?;
        Ok((row.try_get("format")?, u64::try_from(now_ms).unwrap_or(0)))
    }

    /// Whether a commit that got no answer is there, and the connection on which that was found. Waits until the
    /// server is through with it.
    pub(super) async fn find_commit(&self, mark: i64) -> Result<(PgConnection, bool), LedgerError> {
        let deadline = Instant::now() + self.limits.settle;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match timeout(left, self.ask_for_commit(mark)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => error,
                Err(_) => self.meaning(&Failure::Silent(self.limits.settle)),
            };
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(error);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn ask_for_commit(&self, mark: i64) -> Result<(PgConnection, bool), LedgerError> {
        let mut connection = self.connect_again().await?;
        // With the lock nobody is at work any more; without a row in `writers` the last one is the lock's.
        let sql = format!(
            "BEGIN;
             SELECT CAST(0 AS BIGINT) AS last FROM ledger WHERE only_row = 1 FOR UPDATE;
             SELECT last FROM writers WHERE id = '{}';
             ROLLBACK",
            self.writer
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await;
        let last = rows
            .and_then(|rows| rows.last().ok_or(sqlx::Error::RowNotFound)?.try_get::<i64, _>("last"))
            .map_err(|error| self.meaning(&Failure::Sql(error)))?;
        Ok((connection, last == mark))
    }

    /// Closes the connection in order. Dropping does no harm.
    pub(super) async fn close(self) -> Result<(), LedgerError> {
        match self.home.into_inner().connection {
            Some(connection) => within(self.limits.statement, connection.close())
                .await
                .map_err(|failure| failure.meaning(&self.url)),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Store for Server {
    async fn fetch_optional(&self, statement: Statement) -> Result<Option<Row>, LedgerError> {
        Ok(self.repeatable(statement).await?.first())
    }

    async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, LedgerError> {
        Ok(self.repeatable(statement).await?.all())
    }

    async fn execute(&self, statement: Statement) -> Result<u64, LedgerError> {
        Ok(self.repeatable(statement).await?.changed)
    }

    async fn begin(&self) -> Result<Box<dyn Write + '_>, LedgerError> {
        Ok(Box::new(self.begin_writing().await?))
    }

    async fn look(&self) -> Result<Box<dyn Look + '_>, LedgerError> {
        let mut tries = 0;
        loop {
            let mut held = self.hold().await?;
            match within(self.limits.statement, sqlx::raw_sql(LOOK).execute(held.connection()?))
                .await
            {
                Ok(_) => return Ok(Box::new(ServerLook { server: self, held })),
                Err(failure) if failure.is_cut() && tries < RETRIES => tries += 1,
                Err(failure) => return Err(self.meaning(&failure)),
            }
        }
    }

    async fn now_ms(&self, _: &dyn Surroundings) -> Result<u64, LedgerError> {
        let reply = self.repeatable(Statement::new("SELECT now_ms() AS now_ms")).await?;
        let row =
            reply.first().ok_or_else(|| self.meaning(&Failure::Sql(sqlx::Error::RowNotFound)))?;
        unsigned("the server's time", &row, "now_ms")
    }

    fn was_cut(&self) -> bool {
        self.cut.swap(false, Ordering::Relaxed)
    }
}

/// The connection in use. Dropped without [`Held::give_back`] it is gone.
pub(super) struct Held<'a> {
    pub(super) home: MutexGuard<'a, Home>,
    connection: Option<PgConnection>,
}

impl Held<'_> {
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, LedgerError> {
        self.connection.as_mut().ok_or_else(gone)
    }

    /// Takes this one instead.
    pub(super) fn replace(&mut self, connection: PgConnection) {
        self.connection = Some(connection);
    }

    /// Ends the connection; what is under way on it goes on.
    pub(super) fn cut(&mut self) {
        self.connection = None;
    }

    pub(super) fn is_cut(&self) -> bool {
        self.connection.is_none()
    }

    pub(super) fn give_back(mut self) {
        self.home.unsettled = false;
        self.home.connection = self.connection.take();
    }
}

fn gone() -> LedgerError {
    LedgerError::Unavailable("the connection to the ledger is gone".to_owned())
}

/// A transaction that only reads. Dropped, it ends with its connection.
struct ServerLook<'a> {
    server: &'a Server,
    held: Held<'a>,
}

#[async_trait]
impl Look for ServerLook<'_> {
    async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<Row>, LedgerError> {
        let reply = run(self.held.connection()?, statement, &self.server.limits).await;
        reply.map(Reply::all).map_err(|failure| self.server.meaning(&failure))
    }

    async fn end(mut self: Box<Self>) -> Result<(), LedgerError> {
        let ended = sqlx::raw_sql("COMMIT").execute(self.held.connection()?);
        let ended = within(self.server.limits.statement, ended).await;
        ended.map_err(|failure| self.server.meaning(&failure))?;
        self.held.give_back();
        Ok(())
    }
}
