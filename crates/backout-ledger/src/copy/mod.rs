//! Moving a ledger from its file into a PostgreSQL database.
//!
//! The file is locked until the end. The database says that it is a copy under way until it is whole, and the file
//! says that it was moved before that: at no moment can both be used, and after a kill at any point the same command
//! goes on.

mod rows;
mod tables;
mod target;
#[cfg(test)]
mod tests;

use std::path::Path;

use backout_core::ids::{AppName, EnvironmentKey, EnvironmentName, LedgerId};
use backout_core::ports::{LeaseView, Ledger as _, LedgerError};

use crate::audit::Verifier;
use crate::postgres::DatabaseUrl;
use crate::records::codec::{column, corrupt, unsigned};
use crate::records::store::{Look, Statement, Write};
use crate::records::{audit, lease};
use crate::sqlite::{OpenError, SqliteLedger, SqliteWrite};
use tables::{TABLES, Table};
use target::{Identity, Target};

/// Why a ledger was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// One of the two failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Somebody works with it.
    #[error("busy: {} holds {key} since {}", .view.holder.label, .view.since)]
    Busy {
        /// What is held.
        key: EnvironmentKey,
        /// By whom.
        view: Box<LeaseView>,
    },
    /// It must not be.
    #[error("refused to copy: {0}")]
    Refused(String),
    /// The copy is not what was copied.
    #[error(
        "failed to verify the copy: {0} differs; the ledger in the folder stays the one in use"
    )]
    Differs(String),
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The database says that a copy is under way.
    Begun,
    /// So many rows of a table are there.
    Rows(&'static str, u64),
    /// The copy is as what was copied.
    Verified,
    /// The file says that it was moved.
    Marked,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The ledger: the same one.
    pub ledger: LedgerId,
    /// Rows by table.
    pub rows: Vec<(&'static str, u64)>,
    /// Entries of its audit log.
    pub audit_entries: u64,
    /// Whether the audit log finds everything as it was written; if not, it did not before either.
    pub audit_verified: bool,
}

/// Copies the ledger of a folder into a database, verifies the copy, and marks the folder's ledger as moved.
///
/// # Errors
/// Until the copy was verified the ledger in the folder stays the one in use; after an error the same call goes on.
pub async fn copy_ledger(
    folder: &Path,
    url: &DatabaseUrl,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Copied, CopyError> {
    let source = SqliteLedger::open_to_move(folder).await?;
    refuse_controllers(&source).await?;
    let mut held = source.store.begin_writing().await?;
    refuse_holders(&source, &mut held).await?;
    let identity = identity(&mut held).await?;
    let from = format!("{} in {}", identity.id, source.folder().display());
    let mut target = Target::open(url).await?;
    let moved = crate::sqlite::moved_to(&mut held).await?;
    let known = target.known().await?;
    let same = known.id == identity.id.as_str();
    match (&known.copying_from, moved) {
        (Some(_), _) if same => {}
        (Some(other), _) => {
            return Err(CopyError::Refused(format!("{url} holds a part of {other}")));
        }
        (None, Some(_)) if same => {
            // It was compared before it was marked, and the copy may have gone on since.
            let copied = tally(&mut held, &identity.id).await?;
            Box::new(held).rollback().await;
            return Ok(copied);
        }
        (None, Some(other)) => {
            return Err(CopyError::Refused(format!("this ledger was moved to {other}")));
        }
        (None, None) if known.is_free() => {}
        (None, None) => {
            return Err(CopyError::Refused(format!(
                "{url} holds a ledger already ({}); name an empty database",
                known.id
            )));
        }
    }
    target.begin(&identity, &from).await?;
    progress(Progress::Begun);
    for table in TABLES {
        copy_table(&mut held, &mut target, table, progress).await?;
    }
    target.count_on().await?;
    let copied = verify(&mut held, &mut target, &identity.id).await?;
    progress(Progress::Verified);
    crate::sqlite::mark_moved(&mut held, &url.to_string(), &names()).await?;
    Box::new(held).commit().await?;
    progress(Progress::Marked);
    target.finish().await?;
    source.close().await?;
    Ok(copied)
}

/// All that can be written into.
fn names() -> Vec<&'static str> {
    TABLES.iter().map(|table| table.name).chain(["ledger", "controllers"]).collect()
}

async fn refuse_controllers(source: &SqliteLedger) -> Result<(), CopyError> {
    let alive = source.controllers().await?.into_iter().find(|controller| controller.alive);
    match alive {
        Some(controller) => Err(CopyError::Refused(format!(
            "{} serves as a controller of this ledger; stop it first",
            controller.beat.holder.label
        ))),
        None => Ok(()),
    }
}

async fn refuse_holders(
    source: &SqliteLedger,
    held: &mut SqliteWrite<'_>,
) -> Result<(), CopyError> {
    let statement = Statement::new(
        "SELECT app, environment, epoch, pid, pid_start, boot_id, expires_ms, released, since, holder FROM leases",
    );
    let terms = source.terms();
    let what = "a lease";
    for row in held.fetch_all(statement).await? {
        let (app, environment): (String, String) =
            (column(what, &row, "app")?, column(what, &row, "environment")?);
        let key = EnvironmentKey {
            app: AppName::new(app).map_err(|error| corrupt(what, &error))?,
            environment: EnvironmentName::new(environment)
                .map_err(|error| corrupt(what, &error))?,
        };
        let now_ms = terms.surroundings.boottime_ms();
        let view = lease::read(&key, &row, &terms, now_ms)?;
        if view.alive {
            return Err(CopyError::Busy { key, view: Box::new(view) });
        }
    }
    Ok(())
}

async fn identity(held: &mut SqliteWrite<'_>) -> Result<Identity, LedgerError> {
    let what = "the ledger's identity";
    let statement =
        Statement::new("SELECT id, hash_key, created_at FROM ledger WHERE only_row = 1");
    let row = Write::fetch_optional(held, statement).await?;
    let row = row.ok_or_else(|| corrupt(what, &"its row is missing"))?;
    let id: String = column(what, &row, "id")?;
    Ok(Identity {
        id: LedgerId::new(id).map_err(|error| corrupt(what, &error))?,
        hash_key: column(what, &row, "hash_key")?,
        created_at: column(what, &row, "created_at")?,
    })
}

async fn copy_table(
    held: &mut SqliteWrite<'_>,
    target: &mut Target,
    table: &'static Table,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), CopyError> {
    let (mut last, mut count) = (None, 0);
    loop {
        let found = held.fetch_all(rows::page(table, last.as_ref(), true)).await?;
        if found.is_empty() {
            return Ok(());
        }
        let read = |row| rows::values(table, row);
        let page: Vec<rows::Values> = found.iter().map(read).collect::<Result<_, _>>()?;
        for statement in rows::inserts(table, &page) {
            target.execute(statement).await?;
        }
        count += page.len() as u64;
        last = page.into_iter().next_back();
        progress(Progress::Rows(table.name, count));
    }
}

/// Row by row, and by the audit log.
async fn verify(
    held: &mut SqliteWrite<'_>,
    target: &mut Target,
    ledger: &LedgerId,
) -> Result<Copied, CopyError> {
    let mut counts = Vec::new();
    for table in TABLES {
        counts.push((table.name, compare(held, target, table).await?));
    }
    let before = audit_of(held).await?;
    let after = audit_of(target).await?;
    if before.findings != after.findings || before.entries != after.entries {
        return Err(CopyError::Differs("what the audit log says".to_owned()));
    }
    Ok(Copied {
        ledger: ledger.clone(),
        rows: counts,
        audit_entries: after.entries,
        audit_verified: after.verified(),
    })
}

/// What there is to copy.
async fn tally(held: &mut SqliteWrite<'_>, ledger: &LedgerId) -> Result<Copied, CopyError> {
    let mut rows = Vec::new();
    for table in TABLES {
        let count = format!("SELECT count(*) AS found FROM {}", table.name);
        let found = held.fetch_all(Statement::new(count)).await?;
        let count = found.first().map_or(Ok(0), |row| unsigned(table.name, row, "found"))?;
        rows.push((table.name, count));
    }
    let report = audit_of(held).await?;
    Ok(Copied {
        ledger: ledger.clone(),
        rows,
        audit_entries: report.entries,
        audit_verified: report.verified(),
    })
}

async fn audit_of(look: &mut dyn Look) -> Result<crate::audit::Report, LedgerError> {
    let mut verifier = Verifier::new(&[]);
    audit::scan_all(look, &mut verifier).await?;
    Ok(verifier.finish())
}

async fn compare(
    held: &mut SqliteWrite<'_>,
    target: &mut Target,
    table: &Table,
) -> Result<u64, CopyError> {
    let (mut last, mut count) = (None, 0);
    loop {
        let ours = held.fetch_all(rows::page(table, last.as_ref(), true)).await?;
        let theirs = target.fetch_all(rows::page(table, last.as_ref(), false)).await?;
        let read = |row| rows::values(table, row);
        let ours: Vec<rows::Values> = ours.iter().map(read).collect::<Result<_, _>>()?;
        let theirs: Vec<rows::Values> = theirs.iter().map(read).collect::<Result<_, _>>()?;
        if let Some((row, _)) = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs) {
            return Err(CopyError::Differs(rows::name_of(table, row)));
        }
        if ours.len() != theirs.len() {
            return Err(CopyError::Differs(format!("the number of rows in {}", table.name)));
        }
        count += ours.len() as u64;
        match ours.into_iter().next_back() {
            Some(row) => last = Some(row),
            None => return Ok(count),
        }
    }
}
