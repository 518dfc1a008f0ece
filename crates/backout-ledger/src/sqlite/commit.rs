//! Commits: lease, sequence, changes and entries in one transaction.

use backout_core::ids::{EnvironmentKey, OperationId};
use backout_core::ports::{AppendError, Change, Commit, Lease, LedgerError};
use backout_core::saga::Entry;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::codec::{column, encode, signed};
use super::database::{Database, Write};
use super::{changes, lease, query};
use crate::chain::{self, Link};

/// Entries that go in with one statement.
const ENTRIES_PER_STATEMENT: usize = 32;

/// All or nothing.
pub(super) async fn commit(
    database: &Database,
    lease: &Lease,
    commits: &[Commit],
) -> Result<(), AppendError> {
    let mut write = database.begin().await?;
    match apply_all(&mut write, lease, commits).await {
        Ok(()) => Ok(write.commit().await?),
        Err(error) => {
            write.rollback().await;
            Err(error)
        }
    }
}

async fn apply_all(
    write: &mut Write<'_>,
    lease: &Lease,
    commits: &[Commit],
) -> Result<(), AppendError> {
    lease::check(write, lease).await?;
    let mut chain = None;
    for commit in commits {
        apply(write, lease, commit, &mut chain).await?;
    }
    Ok(())
}

async fn apply(
    write: &mut Write<'_>,
    lease: &Lease,
    commit: &Commit,
    chain: &mut Option<Vec<u8>>,
) -> Result<(), AppendError> {
    let found = query::sequence_of(write, &commit.operation).await?;
    if found != commit.expected_sequence {
        let operation = commit.operation.clone();
        return Err(AppendError::Conflict { operation, expected: commit.expected_sequence, found });
    }
    for change in &commit.changes {
        changes::apply(write, lease, &commit.operation, change).await?;
    }
    if commit.entries.is_empty() {
        return Ok(());
    }
    let closes = commit.changes.iter().any(|change| matches!(change, Change::Close));
    check_operation(write, &lease.key, &commit.operation, closes).await?;
    for (index, part) in commit.entries.chunks(ENTRIES_PER_STATEMENT).enumerate() {
        let first = found + 1 + (index * ENTRIES_PER_STATEMENT) as u64;
        append(write, lease, &commit.operation, first, part, chain).await?;
    }
    Ok(())
}

/// Entries go only to an open operation of the leased environment, or to one that ends with them.
async fn check_operation(
    write: &mut Write<'_>,
    key: &EnvironmentKey,
    operation: &OperationId,
    closes: bool,
) -> Result<(), LedgerError> {
    let statement = sqlx::query("SELECT app, environment, open FROM operations WHERE id = ?")
        .bind(operation.as_str());
    let row = write.fetch_optional(statement).await?;
    let row = row.ok_or_else(|| refuse(format!("{operation} was never opened")))?;
    let what = format!("operation {operation}");
    let app: String = column(&what, &row, "app")?;
    let environment: String = column(&what, &row, "environment")?;
    if app != key.app.as_str() || environment != key.environment.as_str() {
        return Err(refuse(format!(
            "{operation} belongs to {app}/{environment}, the lease to {key}"
        )));
    }
    if !closes && !column::<bool>(&what, &row, "open")? {
        return Err(refuse(format!("{operation} is over")));
    }
    Ok(())
}

async fn append(
    write: &mut Write<'_>,
    lease: &Lease,
    operation: &OperationId,
    first: u64,
    entries: &[Entry],
    chain: &mut Option<Vec<u8>>,
) -> Result<(), LedgerError> {
    let mut hash = match chain.take() {
        Some(hash) => hash,
        None => last_hash(write).await?,
    };
    let mut rows = Vec::with_capacity(entries.len());
    for (sequence, entry) in (first..).zip(entries) {
        let what = format!("entry {sequence} of {operation}");
        if entry.epoch != lease.epoch {
            return Err(refuse(format!(
                "{what} has epoch {}, the lease {}",
                entry.epoch, lease.epoch
            )));
        }
        let json = encode(&what, entry)?;
        let link =
            Link { operation: operation.as_str(), sequence, epoch: entry.epoch, json: &json };
        hash = chain::next(&hash, &link).to_vec();
        rows.push((signed("sequence", sequence)?, entry, json, hash.clone()));
    }
    *chain = Some(hash);
    let epoch = signed("epoch", lease.epoch)?;
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO entries (operation, sequence, format, epoch, at, json, hash) ",
    );
    query.push_values(rows, |mut values, (sequence, entry, json, hash)| {
        values
            .push_bind(operation.as_str())
            .push_bind(sequence)
            .push_bind(entry.format)
            .push_bind(epoch);
        values.push_bind(entry.at.to_string()).push_bind(json).push_bind(hash);
    });
    write.execute(query.build()).await.map(|_| ())
}

async fn last_hash(write: &mut Write<'_>) -> Result<Vec<u8>, LedgerError> {
    let row = write
        .fetch_optional(sqlx::query("SELECT hash FROM entries ORDER BY id DESC LIMIT 1"))
        .await?;
    match row {
        Some(row) => {
            row.try_get(0).map_err(|error| super::codec::corrupt("the newest entry", &error))
        }
        None => Ok(chain::GENESIS.to_vec()),
    }
}

/// A commit that no correct caller makes.
pub(super) fn refuse(why: String) -> LedgerError {
    LedgerError::Unavailable(format!("refused a commit: {why}"))
}
