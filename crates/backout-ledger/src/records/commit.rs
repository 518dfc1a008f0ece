//! Commits: lease, sequence, changes and entries in one transaction.

use backout_core::ids::{EnvironmentKey, OperationId};
use backout_core::ports::{AppendError, Change, Commit, Lease, LedgerError};
use backout_core::saga::Entry;

use super::codec::{column, encode, signed};
use super::store::{Statement, Store, Write};
use super::{changes, lease, query};
use crate::chain::{self, Link};

/// Entries that go in with one statement.
const ENTRIES_PER_STATEMENT: usize = 32;

/// All or nothing.
pub(super) async fn commit(
    store: &dyn Store,
    lease: &Lease,
    commits: &[Commit],
) -> Result<(), AppendError> {
    let mut write = store.begin().await?;
    match apply_all(write.as_mut(), lease, commits).await {
        Ok(()) => Ok(write.commit().await?),
        Err(error) => {
            write.rollback().await;
            Err(error)
        }
    }
}

async fn apply_all(
    write: &mut dyn Write,
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
    write: &mut dyn Write,
    lease: &Lease,
    commit: &Commit,
    chain: &mut Option<(i64, Vec<u8>)>,
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
    write: &mut dyn Write,
    key: &EnvironmentKey,
    operation: &OperationId,
    closes: bool,
) -> Result<(), LedgerError> {
    let statement = Statement::new("SELECT app, environment, open FROM operations WHERE id = $1")
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
    write: &mut dyn Write,
    lease: &Lease,
    operation: &OperationId,
    first: u64,
    entries: &[Entry],
    chain: &mut Option<(i64, Vec<u8>)>,
) -> Result<(), LedgerError> {
    let (mut id, mut hash) = match chain.take() {
        Some(last) => last,
        None => last_entry(write).await?,
    };
    let mut statement = Statement::new(
        "INSERT INTO entries (id, operation, sequence, format, epoch, at, json, hash) VALUES ",
    );
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
        id += 1;
        statement.push(if sequence == first { "(" } else { ", (" }, id);
        statement.push(", ", operation.as_str());
        statement.push(", ", signed("sequence", sequence)?);
        statement.push(", ", entry.format);
        statement.push(", ", signed("epoch", entry.epoch)?);
        statement.push(", ", entry.at.to_string());
        statement.push(", ", json);
        statement.push(", ", hash.clone());
        statement.push_sql(")");
    }
    *chain = Some((id, hash));
    write.execute(statement).await.map(|_| ())
}

/// Id and hash of the newest entry.
async fn last_entry(write: &mut dyn Write) -> Result<(i64, Vec<u8>), LedgerError> {
    let row = write
        .fetch_optional(Statement::new("SELECT id, hash FROM entries ORDER BY id DESC LIMIT 1"))
        .await?;
    let what = "the newest entry";
    match row {
        Some(row) => Ok((column(what, &row, "id")?, column(what, &row, "hash")?)),
        None => Ok((0, chain::GENESIS.to_vec())),
    }
}

/// A commit that no correct caller makes.
pub(super) fn refuse(why: String) -> LedgerError {
    LedgerError::Unavailable(format!("refused a commit: {why}"))
}
