//! A long history in little time, for benchmarks: through the port, as the engine would write it.

mod records;

use backout_core::ids::{AppName, EnvironmentKey, EnvironmentName};
use backout_core::model::EnvironmentRecord;
use backout_core::ports::{AppendError, ClaimError, Commit, Holder, Ledger, LedgerError};
use jiff::{SignedDuration, Timestamp};

use records::History;

/// Deployments per transaction.
const BATCH: u64 = 200;

/// Why no history was written, or only a part of it.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// Not leased.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Not written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Not read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Adds `deployments` to the history of an environment: an hour apart, the newest one now; every tenth is a
/// rollback from the one before it. Returns the number of the newest.
///
/// # Errors
/// When the environment is leased or the ledger fails; batches before that stay.
pub async fn seed_history(
    ledger: &dyn Ledger,
    key: &EnvironmentKey,
    holder: &Holder,
    deployments: u64,
) -> Result<u64, SeedError> {
    let lease = ledger.claim(key, holder).await?;
    let result = write(ledger, &lease, deployments).await;
    ledger.release(&lease).await?;
    result
}

/// Leaves an operation interrupted in each of so many environments of an app: a step was begun, and nobody knows how
/// it ended.
///
/// # Errors
/// As [`seed_history`].
pub async fn seed_interrupted(
    ledger: &dyn Ledger,
    app: &AppName,
    holder: &Holder,
    environments: u64,
) -> Result<(), SeedError> {
    for number in 0..environments {
        let name =
            EnvironmentName::new(format!("e{number}")).expect("a letter and digits are valid");
        let key = EnvironmentKey { app: app.clone(), environment: name };
        let lease = ledger.claim(&key, holder).await?;
        let history = History { lease: &lease, by: "seed", now: Timestamp::now() };
        let mut environment = EnvironmentRecord::new(key.clone());
        let commit = history.interrupted(&mut environment);
        ledger.commit(&lease, &[commit]).await?;
        ledger.release(&lease).await?;
    }
    Ok(())
}

async fn write(
    ledger: &dyn Ledger,
    lease: &backout_core::ports::Lease,
    deployments: u64,
) -> Result<u64, SeedError> {
    let known = ledger.environment(&lease.key).await?;
    let mut environment = known.unwrap_or_else(|| EnvironmentRecord::new(lease.key.clone()));
    let first = environment.next_number;
    let end = first + deployments;
    let mut history = History { lease, by: "seed", now: Timestamp::now() };
    let newest = history.now;
    for from in (first..end).step_by(usize::try_from(BATCH).unwrap_or(1)) {
        ledger.renew(lease).await?;
        let mut commits: Vec<Commit> = Vec::new();
        for number in from..end.min(from + BATCH) {
            let hours = i64::try_from(end - number - 1).unwrap_or(0);
            history.now = newest - SignedDuration::from_hours(hours);
            commits.push(history.deployment(&mut environment, first, number));
        }
        ledger.commit(lease, &commits).await?;
    }
    Ok(end - 1)
}
