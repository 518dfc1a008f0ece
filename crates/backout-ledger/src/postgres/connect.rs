//! Connecting: with limits on the server's side too, to a ledger that is there and of a format that is known.

use backout_core::ports::LedgerError;
use sqlx::{ConnectOptions as _, PgConnection, Row as _};
use tokio::time::{Duration, Instant, sleep};

use super::error::Failure;
use super::server::within;
use super::url::DatabaseUrl;
use super::{Limits, SCHEMA, migrations};
use crate::sqlite::{OpenError, OpenMode};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// What is worth another try to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// A server that starts, is full for the moment, or breaks off.
    Starting,
    /// Also one that does not listen: it did a moment ago.
    Cut,
}

/// Why a connection is not there.
enum Refused {
    Failure(Failure),
    Open(OpenError),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Connects; in [`OpenMode::ReadWrite`] makes what is not there.
pub(super) async fn open_patiently(
    url: &DatabaseUrl,
    mode: OpenMode,
    limits: &Limits,
    patience: Patience,
) -> Result<PgConnection, OpenError> {
    let deadline = Instant::now() + limits.reconnect;
    loop {
        let failure = match open(url, mode, limits).await {
            Ok(connection) => return Ok(connection),
            Err(Refused::Open(error)) => return Err(error),
            Err(Refused::Failure(failure)) => failure,
        };
        let worth = failure.may_pass()
            || failure.is_broken_off()
            || (patience == Patience::Cut && failure.is_cut());
        if !worth || Instant::now() + PAUSE >= deadline {
            return Err(failure.meaning(url).into());
        }
        sleep(PAUSE).await;
    }
}

async fn open(url: &DatabaseUrl, mode: OpenMode, limits: &Limits) -> Result<PgConnection, Refused> {
    let mut connection = connect(url, mode, limits).await?;
    match found(&mut connection, limits).await? {
        Some(Found { copying_from: Some(from), .. }) => {
            Err(Refused::Open(OpenError::HalfCopied { database: url.to_string(), from }))
        }
        Some(Found { format, .. }) if format > migrations::SUPPORTED => {
            let supported = migrations::SUPPORTED;
            Err(Refused::Open(LedgerError::NewerFormat { found: format, supported }.into()))
        }
        Some(Found { format: migrations::SUPPORTED, .. }) => Ok(connection),
        Some(Found { format, .. }) if mode == OpenMode::ReadOnly => {
            let message = format!(
                "{url} has the older format {format}; any changing command brings it up to date"
            );
            Err(Refused::Open(LedgerError::Unavailable(message).into()))
        }
        None if mode == OpenMode::ReadOnly => {
            Err(Refused::Open(OpenError::NoLedger(url.to_string())))
        }
        Some(_) | None => {
            let made = migrations::run(&mut connection, url, limits).await;
            made.map(|()| connection).map_err(|error| Refused::Open(error.into()))
        }
    }
}

/// A bare connection. The server ends what hangs, so that nobody waits for a dead client.
pub(crate) async fn connect(
    url: &DatabaseUrl,
    mode: OpenMode,
    limits: &Limits,
) -> Result<PgConnection, Failure> {
    let ms = |duration: Duration| duration.as_millis().to_string();
    let seconds = |duration: Duration| duration.as_secs().max(1).to_string();
    let mut settings = vec![
        ("search_path", SCHEMA.to_owned()),
        ("lock_timeout", ms(limits.lock)),
        ("statement_timeout", ms(limits.large)),
        // Sooner than others give up waiting for it.
        ("idle_in_transaction_session_timeout", ms(limits.lock * 3 / 4)),
        ("tcp_user_timeout", ms(limits.statement)),
        ("tcp_keepalives_idle", seconds(limits.statement)),
        ("tcp_keepalives_interval", "1".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        // What was acknowledged is durable, whatever is set for others there.
        ("synchronous_commit", "on".to_owned()),
        ("default_transaction_isolation", "read committed".to_owned()),
    ];
    if mode == OpenMode::ReadOnly {
        settings.push(("default_transaction_read_only", "on".to_owned()));
    }
    let options = url.options().application_name("backout").options(settings);
    within(limits.connect, options.disable_statement_logging().connect()).await
}

/// What there is of a ledger.
pub(super) struct Found {
    pub(super) format: i64,
    pub(super) copying_from: Option<String>,
}

/// Looks for one. `None` where there is none.
pub(super) async fn found(
    connection: &mut PgConnection,
    limits: &Limits,
) -> Result<Option<Found>, Failure> {
    let asked = sqlx::raw_sql("SELECT format, copying_from FROM ledger WHERE only_row = 1")
        .fetch_optional(connection);
    let row = match within(limits.statement, asked).await {
        Ok(row) => row,
        Err(failure) if failure.is_missing_table() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let Some(row) = row else { return Ok(None) };
    let read = |error| Failure::Sql(error);
    Ok(Some(Found {
        format: row.try_get("format").map_err(read)?,
        copying_from: row.try_get("copying_from").map_err(read)?,
    }))
}
