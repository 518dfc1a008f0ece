//! Leases: a row per environment, read and changed under the write lock.

use backout_core::ids::EnvironmentKey;
use backout_core::model::EnvironmentRecord;
use backout_core::ports::{AppendError, ClaimError, Holder, Lease, LeaseView, LedgerError};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use super::codec::{RECORD_FORMAT, column, encode, parse, signed, unsigned};
use super::database::{Database, Statement, Write};
use crate::surroundings::{Liveness, Surroundings};

/// The clock and the length of a term.
pub(super) struct Terms<'a> {
    pub(super) surroundings: &'a dyn Surroundings,
    pub(super) term_ms: u64,
}

pub(super) async fn claim(
    database: &Database,
    terms: &Terms<'_>,
    key: &EnvironmentKey,
    holder: &Holder,
) -> Result<Lease, ClaimError> {
    let mut write = database.begin().await?;
    let row = write.fetch_optional(select(key)).await?;
    let last = row.map(|row| read(key, &row, terms)).transpose()?;
    let epoch = match last {
        Some(view) if view.alive => {
            write.rollback().await;
            return Err(ClaimError::Busy(Box::new(view)));
        }
        Some(view) => view.epoch + 1,
        None => 1,
    };
    insert_environment(&mut write, key).await?;
    write_row(&mut write, terms, key, holder, epoch).await?;
    write.commit().await?;
    Ok(Lease { key: key.clone(), epoch, term_ms: terms.term_ms })
}

pub(super) async fn renew(
    database: &Database,
    terms: &Terms<'_>,
    lease: &Lease,
) -> Result<(), AppendError> {
    let mut write = database.begin().await?;
    if let Err(error) = check(&mut write, lease).await {
        write.rollback().await;
        return Err(error);
    }
    let expires_ms = terms.surroundings.boottime_ms().saturating_add(terms.term_ms);
    let statement =
        sqlx::query("UPDATE leases SET expires_ms = ? WHERE app = ? AND environment = ?")
            .bind(signed("a boot time", expires_ms)?)
            .bind(lease.key.app.as_str())
            .bind(lease.key.environment.as_str());
    write.execute(statement).await?;
    Ok(write.commit().await?)
}

pub(super) async fn release(database: &Database, lease: &Lease) -> Result<(), LedgerError> {
    let statement = sqlx::query(
        "UPDATE leases SET released = 1 WHERE app = ? AND environment = ? AND epoch = ?",
    )
    .bind(lease.key.app.as_str())
    .bind(lease.key.environment.as_str())
    .bind(signed("epoch", lease.epoch)?);
    database.execute(statement).await.map(|_| ())
}

pub(super) async fn view(
    database: &Database,
    terms: &Terms<'_>,
    key: &EnvironmentKey,
) -> Result<Option<LeaseView>, LedgerError> {
    let row = database.fetch_optional(select(key)).await?;
    row.map(|row| read(key, &row, terms)).transpose()
}

/// Refuses who no longer has the lease. Its own term may have ended: while nobody else claimed, nothing is lost.
pub(super) async fn check(write: &mut Write<'_>, lease: &Lease) -> Result<(), AppendError> {
    let fenced = |current| AppendError::Fenced { ours: lease.epoch, current };
    let row = write.fetch_optional(select(&lease.key)).await?.ok_or(fenced(0))?;
    let what = format!("the lease of {}", lease.key);
    let current = unsigned(&what, &row, "epoch")?;
    let released: bool = column(&what, &row, "released")?;
    if current == lease.epoch && !released { Ok(()) } else { Err(fenced(current)) }
}

fn select(key: &EnvironmentKey) -> Statement<'static> {
    sqlx::query(
        "SELECT epoch, pid, pid_start, boot_id, expires_ms, released, since, holder FROM leases
         WHERE app = ? AND environment = ?",
    )
    .bind(key.app.as_str().to_owned())
    .bind(key.environment.as_str().to_owned())
}

async fn insert_environment(
    write: &mut Write<'_>,
    key: &EnvironmentKey,
) -> Result<(), LedgerError> {
    let json = encode("the environment", &EnvironmentRecord::new(key.clone()))?;
    let statement = sqlx::query(
        "INSERT INTO environments (app, environment, format, json) VALUES (?, ?, ?, ?)
         ON CONFLICT (app, environment) DO NOTHING",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(RECORD_FORMAT)
    .bind(json);
    write.execute(statement).await.map(|_| ())
}

async fn write_row(
    write: &mut Write<'_>,
    terms: &Terms<'_>,
    key: &EnvironmentKey,
    holder: &Holder,
    epoch: u64,
) -> Result<(), LedgerError> {
    let expires_ms = terms.surroundings.boottime_ms().saturating_add(terms.term_ms);
    let statement = sqlx::query(
        "INSERT OR REPLACE INTO leases
         (app, environment, epoch, pid, pid_start, boot_id, expires_ms, released, since, holder)
         VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(signed("epoch", epoch)?)
    .bind(i64::from(holder.pid))
    .bind(signed("a start time", holder.pid_start)?)
    .bind(holder.boot_id.as_str())
    .bind(signed("a boot time", expires_ms)?)
    .bind(Timestamp::now().to_string())
    .bind(encode("the holder", holder)?);
    write.execute(statement).await.map(|_| ())
}

fn read(
    key: &EnvironmentKey,
    row: &SqliteRow,
    terms: &Terms<'_>,
) -> Result<LeaseView, LedgerError> {
    let what = format!("the lease of {key}");
    let since: String = column(&what, row, "since")?;
    let released: bool = column(&what, row, "released")?;
    let holder = read_holder(&what, row)?;
    let in_term = terms.surroundings.boottime_ms() < unsigned(&what, row, "expires_ms")?;
    let alive = !released && in_term && terms.surroundings.liveness(&holder) != Liveness::Gone;
    Ok(LeaseView {
        holder,
        epoch: unsigned(&what, row, "epoch")?,
        alive,
        since: since.parse().unwrap_or_default(),
    })
}

/// A holder's text that can't be read must lock nobody out: what decides stands in columns of its own.
fn read_holder(what: &str, row: &SqliteRow) -> Result<Holder, LedgerError> {
    let pid: i64 = column(what, row, "pid")?;
    let pid =
        u32::try_from(pid).map_err(|_| super::codec::corrupt(what, &format!("pid is {pid}")))?;
    let pid_start = unsigned(what, row, "pid_start")?;
    let boot_id: String = column(what, row, "boot_id")?;
    let text: String = column(what, row, "holder")?;
    Ok(match parse::<Holder>(what, &text) {
        Ok(holder) => Holder { pid, pid_start, boot_id, ..holder },
        Err(error) => {
            tracing::warn!(%error, "the holder of a lease is known only by its process");
            Holder {
                label: format!("pid {pid}"),
                pid,
                pid_start,
                boot_id,
                activity: "unknown".to_owned(),
                person: false,
            }
        }
    })
}
