//! Leases: a row per environment, read and changed under the write lock.

use backout_core::ids::EnvironmentKey;
use backout_core::model::EnvironmentRecord;
use backout_core::ports::audit::{AuditKind, audit_subject};
use backout_core::ports::{AppendError, ClaimError, Holder, Lease, LeaseView, LedgerError};
use jiff::Timestamp;

use super::codec::{RECORD_FORMAT, column, encode, parse, signed, unsigned};
use super::logged::Logged;
use super::store::{Row, Statement, Store};
use crate::faults::mutant;
use crate::surroundings::{Liveness, Surroundings};

/// The clock and the length of a term.
pub(crate) struct Terms<'a> {
    pub(crate) surroundings: &'a dyn Surroundings,
    pub(crate) term_ms: u64,
}

pub(super) async fn claim(
    store: &dyn Store,
    terms: &Terms<'_>,
    key: &EnvironmentKey,
    holder: &Holder,
) -> Result<Lease, ClaimError> {
    let mut write = Logged::begin(store).await?;
    let now_ms = write.now_ms(terms.surroundings);
    let row = write.fetch_optional(select(key)).await?;
    let last = row.map(|row| read(key, &row, terms, now_ms)).transpose()?;
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
    store: &dyn Store,
    terms: &Terms<'_>,
    lease: &Lease,
) -> Result<(), AppendError> {
    let mut write = Logged::begin(store).await?;
    if let Err(error) = check(&mut write, lease).await {
        write.rollback().await;
        return Err(error);
    }
    let expires_ms = write.now_ms(terms.surroundings).saturating_add(terms.term_ms);
    let statement =
        Statement::new("UPDATE leases SET expires_ms = $1 WHERE app = $2 AND environment = $3")
            .bind(signed("a boot time", expires_ms)?)
            .bind(lease.key.app.as_str())
            .bind(lease.key.environment.as_str());
    write.execute(statement).await?;
    Ok(write.commit().await?)
}

pub(super) async fn release(store: &dyn Store, lease: &Lease) -> Result<(), LedgerError> {
    let statement = Statement::new(
        "UPDATE leases SET released = 1 WHERE app = $1 AND environment = $2 AND epoch = $3",
    )
    .bind(lease.key.app.as_str())
    .bind(lease.key.environment.as_str())
    .bind(signed("epoch", lease.epoch)?);
    store.execute(statement).await.map(|_| ())
}

pub(super) async fn view(
    store: &dyn Store,
    terms: &Terms<'_>,
    key: &EnvironmentKey,
) -> Result<Option<LeaseView>, LedgerError> {
    let row = store.fetch_optional(select(key)).await?;
    let Some(row) = row else { return Ok(None) };
    let now_ms = store.now_ms(terms.surroundings).await?;
    read(key, &row, terms, now_ms).map(Some)
}

/// Refuses who no longer has the lease. Its own term may have ended: while nobody else claimed, nothing is lost.
pub(super) async fn check(write: &mut Logged<'_>, lease: &Lease) -> Result<(), AppendError> {
    let row = write.fetch_optional(select(&lease.key)).await?;
    checked(lease, row).map(drop)
}

/// The row with `epoch` and `released`, if they are those of the lease.
pub(super) fn checked(lease: &Lease, row: Option<Row>) -> Result<Row, AppendError> {
    let fenced = |current| AppendError::Fenced { ours: lease.epoch, current };
    let row = row.ok_or(fenced(0))?;
    let what = format!("the lease of {}", lease.key);
    let current = unsigned(&what, &row, "epoch")?;
    let released: bool = column(&what, &row, "released")?;
    let ours = (current == lease.epoch && !released) || mutant("no_epoch_check");
    if ours { Ok(row) } else { Err(fenced(current)) }
}

fn select(key: &EnvironmentKey) -> Statement {
    Statement::new(
        "SELECT epoch, pid, pid_start, boot_id, expires_ms, released, since, holder FROM leases
         WHERE app = $1 AND environment = $2",
    )
    .bind(key.app.as_str().to_owned())
    .bind(key.environment.as_str().to_owned())
}

async fn insert_environment(
    write: &mut Logged<'_>,
    key: &EnvironmentKey,
) -> Result<(), LedgerError> {
    let json = encode("the environment", &EnvironmentRecord::new(key.clone()))?;
    let statement = Statement::new(
        "INSERT INTO environments (app, environment, format, json) VALUES ($1, $2, $3, $4)
         ON CONFLICT (app, environment) DO NOTHING",
    )
    .bind(key.app.as_str())
    .bind(key.environment.as_str())
    .bind(RECORD_FORMAT)
    .bind(json.as_str());
    if write.execute(statement).await? == 1 {
        let subject = audit_subject::environment(key);
        write.log(AuditKind::Environment, subject, RECORD_FORMAT, &json);
    }
    Ok(())
}

async fn write_row(
    write: &mut Logged<'_>,
    terms: &Terms<'_>,
    key: &EnvironmentKey,
    holder: &Holder,
    epoch: u64,
) -> Result<(), LedgerError> {
    let expires_ms = write.now_ms(terms.surroundings).saturating_add(terms.term_ms);
    let statement = Statement::new(
        "INSERT INTO leases
         (app, environment, epoch, pid, pid_start, boot_id, expires_ms, released, since, holder)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9)
         ON CONFLICT (app, environment) DO UPDATE SET
             epoch = excluded.epoch, pid = excluded.pid, pid_start = excluded.pid_start,
             boot_id = excluded.boot_id, expires_ms = excluded.expires_ms, released = 0,
             since = excluded.since, holder = excluded.holder",
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

/// A row, as others see it.
pub(crate) fn read(
    key: &EnvironmentKey,
    row: &Row,
    terms: &Terms<'_>,
    now_ms: u64,
) -> Result<LeaseView, LedgerError> {
    let what = format!("the lease of {key}");
    let since: String = column(&what, row, "since")?;
    let released: bool = column(&what, row, "released")?;
    let holder = read_holder(&what, row)?;
    let in_term = now_ms < unsigned(&what, row, "expires_ms")?;
    let alive = !released && in_term && terms.surroundings.liveness(&holder) != Liveness::Gone;
    Ok(LeaseView {
        holder,
        epoch: unsigned(&what, row, "epoch")?,
        alive,
        since: since.parse().unwrap_or_default(),
    })
}

/// A holder's text that can't be read must lock nobody out: what decides stands in columns of its own.
fn read_holder(what: &str, row: &Row) -> Result<Holder, LedgerError> {
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
                goes_back: false,
            }
        }
    })
}
