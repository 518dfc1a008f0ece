//! Commits: lease, sequence, changes and entries in one transaction.

use backout_core::ids::{EnvironmentKey, OperationId};
use backout_core::ports::audit::{AuditKind, audit_subject};
use backout_core::ports::{AppendError, Change, Commit, Lease, LedgerError};
use backout_core::saga::Entry;

use super::codec::{column, encode, signed, unsigned};
use super::logged::Logged;
use super::store::{Statement, Store};
use super::{changes, lease};

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
    if commits.is_empty() {
        return lease::check(write, lease).await;
    }
    for commit in commits {
        apply(write, lease, commit).await?;
    }
    Ok(())
}

async fn apply(write: &mut Logged<'_>, lease: &Lease, commit: &Commit) -> Result<(), AppendError> {
    let mut place = Place::find(write, lease, &commit.operation).await?;
    let found = place.length;
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
    if commit.changes.iter().any(|change| matches!(change, Change::Open(_))) {
        place = Place::find(write, lease, &commit.operation).await?;
    }
    let closes = commit.changes.iter().any(|change| matches!(change, Change::Close));
    place.check(&lease.key, &commit.operation, closes)?;
    let mut last_entry = place.last_entry;
    for (index, part) in commit.entries.chunks(ENTRIES_PER_STATEMENT).enumerate() {
        let first = found + 1 + (index * ENTRIES_PER_STATEMENT) as u64;
        append(write, lease, &commit.operation, (first, last_entry), part).await?;
        last_entry += part.len() as i64;
    }
    Ok(())
}

/// Where the entries of an operation go. Asked for with the lease, in one question: each costs a way to the database.
struct Place {
    /// How many entries it has.
    length: u64,
    /// Id of the newest entry of all; 0 before the first.
    last_entry: i64,
    /// Where the operation was opened, and whether it still is.
    operation: Option<(String, String, bool)>,
}

impl Place {
    async fn find(
        write: &mut Logged<'_>,
        lease: &Lease,
        operation: &OperationId,
    ) -> Result<Self, AppendError> {
        let statement = Statement::new(
            "SELECT leases.epoch, leases.released,
                    (SELECT coalesce(max(sequence), 0) FROM entries WHERE operation = $3) AS length,
                    (SELECT coalesce(max(id), 0) FROM entries) AS last_entry,
                    operations.app AS of_app, operations.environment AS of_environment,
                    coalesce(operations.open, 0) AS open
             FROM leases LEFT JOIN operations ON operations.id = $3
             WHERE leases.app = $1 AND leases.environment = $2",
        )
        .bind(lease.key.app.as_str())
        .bind(lease.key.environment.as_str())
        .bind(operation.as_str());
        let row = write.fetch_optional(statement).await?;
        let row = lease::checked(lease, row)?;
        let what = format!("operation {operation}");
        let app: Option<String> = column(&what, &row, "of_app")?;
        let environment: Option<String> = column(&what, &row, "of_environment")?;
        let open = column(&what, &row, "open")?;
        Ok(Self {
            length: unsigned(&format!("the journal of {operation}"), &row, "length")?,
            last_entry: column("the newest entry", &row, "last_entry")?,
            operation: app.zip(environment).map(|(app, environment)| (app, environment, open)),
        })
    }

    /// Entries go only to an open operation of the leased environment, or to one that ends with them.
    fn check(
        &self,
        key: &EnvironmentKey,
        operation: &OperationId,
        closes: bool,
    ) -> Result<(), LedgerError> {
        let Some((app, environment, open)) = &self.operation else {
            return Err(refuse(format!("{operation} was never opened")));
        };
        if app != key.app.as_str() || environment != key.environment.as_str() {
            return Err(refuse(format!(
                "{operation} belongs to {app}/{environment}, the lease to {key}"
            )));
        }
        if !closes && !open {
            return Err(refuse(format!("{operation} is over")));
        }
        Ok(())
    }
}

async fn append(
    write: &mut Logged<'_>,
    lease: &Lease,
    operation: &OperationId,
    (first, mut id): (u64, i64),
    entries: &[Entry],
) -> Result<(), LedgerError> {
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

/// A commit that no correct caller makes.
pub(super) fn refuse(why: String) -> LedgerError {
    LedgerError::Unavailable(format!("refused a commit: {why}"))
}
