//! Commits: lease, sequence, changes and entries in one transaction.

use backout_core::ids::{EnvironmentKey, OperationId};
use backout_core::ports::audit::{AuditKind, audit_subject};
use backout_core::ports::{AppendError, Change, Commit, Lease, LedgerError};
use backout_core::saga::Entry;

use super::codec::{column, encode, signed};
use super::logged::Logged;
use super::store::{Statement, Store};
use super::{changes, lease, query};

/// Entries that go in with one statement.
const ENTRIES_PER_STATEMENT: usize = 32;

/// All or nothing.
pub(super) async fn commit(
    store: &dyn Store,
    lease: &Lease,
    commits: &[Commit],
) -> Result<(), AppendError> {
    let mut write = Logged::begin(store).await?;
    match apply_all(&mut write, lease, commits).await {
        Ok(()) => Ok(write.commit().await?),
        Err(error) => {
            write.rollback().await;
            Err(error)
        }
    }
}

async fn apply_all(
    write: &mut Logged<'_>,
    lease: &Lease,
    commits: &[Commit],
) -> Result<(), AppendError> {
    lease::check(write, lease).await?;
    for commit in commits {
        apply(write, lease, commit).await?;
    }
    Ok(())
}

async fn apply(write: &mut Logged<'_>, lease: &Lease, commit: &Commit) -> Result<(), AppendError> {
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
        append(write, lease, &commit.operation, first, part).await?;
    }
    Ok(())
}

/// Entries go only to an open operation of the leased environment, or to one that ends with them.
async fn check_operation(
    write: &mut Logged<'_>,
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
    write: &mut Logged<'_>,
    lease: &Lease,
    operation: &OperationId,
    first: u64,
    entries: &[Entry],
) -> Result<(), LedgerError> {
    let mut id = last_entry(write).await?;
    let mut statement = Statement::new(
        "INSERT INTO entries (id, operation, sequence, format, epoch, at, json) VALUES ",
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
        let subject = audit_subject::entry(operation, sequence);
        write.log(AuditKind::Entry, subject, entry.format, &json);
        id += 1;
        statement.push(if sequence == first { "(" } else { ", (" }, id);
        statement.push(", ", operation.as_str());
        statement.push(", ", signed("sequence", sequence)?);
        statement.push(", ", entry.format);
        statement.push(", ", signed("epoch", entry.epoch)?);
        statement.push(", ", entry.at.to_string());
        statement.push(", ", json);
        statement.push_sql(")");
    }
    write.execute(statement).await.map(|_| ())
}

/// Id of the newest entry; 0 before the first.
async fn last_entry(write: &mut Logged<'_>) -> Result<i64, LedgerError> {
    let statement = Statement::new("SELECT id FROM entries ORDER BY id DESC LIMIT 1");
    let row = write.fetch_optional(statement).await?;
    row.map_or(Ok(0), |row| column("the newest entry", &row, "id"))
}

/// A commit that no correct caller makes.
pub(super) fn refuse(why: String) -> LedgerError {
    LedgerError::Unavailable(format!("refused a commit: {why}"))
}
