//! The audit log in the file: leaves that go in with what they are about, and everything shown to a check.

use backout_core::ids::LedgerId;
use backout_core::ports::LedgerError;
use backout_core::ports::audit::{
    AUDIT_PLAIN_FORMAT, AuditHead, AuditKind, AuditLeaf, AuditRecord, AuditVisitor, audit_identity,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite, SqliteConnection};

use super::codec::{column, corrupt, signed, unsigned};
use super::database::Database;
use crate::audit::{Pending, columns, pack, rebuild, unpack};

type Answer<T> = Result<T, LedgerError>;

/// Leaves that go in with one statement: six values each, and SQLite takes 32 766.
const LEAVES_PER_STATEMENT: usize = 1000;

/// Rows that are read at once.
const PAGE: i64 = 1000;

const HEAD: &str = "SELECT size, peaks, (SELECT coalesce(max(leaf) + 1, 0) FROM audit_leaves) AS leaves
                    FROM audit_head WHERE only_row = 1";

/// What happened to a statement of this module.
#[derive(Debug)]
pub(super) enum AuditError {
    Sql(sqlx::Error),
    Ledger(LedgerError),
}

impl From<sqlx::Error> for AuditError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<LedgerError> for AuditError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

/// Appends in the transaction that is open on this connection. A log that was tampered with is continued all the
/// same: a way back must not wait for it, and a check tells.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    mut pending: Pending,
) -> Result<(), AuditError> {
    if pending.is_empty() {
        return Ok(());
    }
    let row = sqlx::query(HEAD).fetch_optional(&mut *connection).await?;
    let kept = row.as_ref().and_then(|row| {
        let head = unpack(unsigned("", row, "size").ok()?, &column::<Vec<u8>>("", row, "peaks").ok()?);
        let leaves = unsigned("", row, "leaves").ok()?;
        (head.size == leaves && head.peaks.len() == head.size.count_ones() as usize).then_some(head)
    });
    let head = match kept {
        Some(head) => head,
        None => {
            let head = rebuild(&all_leaves(connection).await?);
            tracing::warn!(leaves = head.size, "the head of the audit log was damaged and is made anew");
            let note = format!("the head of the log was damaged at leaf {} and was made anew", head.size);
            pending.push(AuditKind::Note, note, AUDIT_PLAIN_FORMAT, "");
            head
        }
    };
    let damaged = || corrupt("the head of the audit log", &"its hashes do not fit its size");
    let (leaves, head) = pending.seal(&head).ok_or_else(damaged)?;
    for part in leaves.chunks(LEAVES_PER_STATEMENT) {
        insert(connection, part).await?;
    }
    sqlx::query("INSERT OR REPLACE INTO audit_head (only_row, size, peaks) VALUES (1, ?, ?)")
        .bind(signed("the size of the audit log", head.size)?)
        .bind(pack(&head))
        .execute(connection)
        .await?;
    Ok(())
}

async fn insert(connection: &mut SqliteConnection, leaves: &[AuditLeaf]) -> Result<(), AuditError> {
    let mut rows = Vec::with_capacity(leaves.len());
    for leaf in leaves {
        rows.push((signed("a leaf", leaf.index)?, leaf));
    }
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO audit_leaves (leaf, kind, subject, format, digest, at) ",
    );
    query.push_values(rows, |mut values, (index, leaf)| {
        values.push_bind(index).push_bind(leaf.kind.as_str()).push_bind(leaf.subject.as_str());
        values.push_bind(leaf.format).push_bind(&leaf.digest[..]).push_bind(leaf.at.as_str());
    });
    query.build().execute(connection).await?;
    Ok(())
}

/// Leaves from a place on, at most a page.
async fn leaves_from(
    connection: &mut SqliteConnection,
    from: i64,
) -> Result<Vec<AuditLeaf>, AuditError> {
    let rows = sqlx::query(
        "SELECT leaf, kind, subject, format, digest, at FROM audit_leaves WHERE leaf >= ? ORDER BY leaf LIMIT ?",
    )
    .bind(from)
    .bind(PAGE)
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().map(read_leaf).collect::<Answer<_>>()?)
}

async fn all_leaves(connection: &mut SqliteConnection) -> Result<Vec<AuditLeaf>, AuditError> {
    let mut all: Vec<AuditLeaf> = Vec::new();
    loop {
        let from = all.last().map_or(Ok(0), |leaf| signed("a leaf", leaf.index + 1))?;
        let page = leaves_from(connection, from).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

fn read_leaf(row: &SqliteRow) -> Answer<AuditLeaf> {
    let index = unsigned("a leaf of the audit log", row, "leaf")?;
    let what = format!("leaf {index} of the audit log");
    let digest: Vec<u8> = column(&what, row, "digest")?;
    Ok(AuditLeaf {
        index,
        kind: column(&what, row, "kind")?,
        subject: column(&what, row, "subject")?,
        format: column(&what, row, "format")?,
        digest: digest.try_into().map_err(|_| corrupt(&what, &"its digest has another length"))?,
        at: column(&what, row, "at")?,
    })
}

/// Shows everything, as of one moment.
pub(super) async fn scan(database: &Database, visitor: &mut dyn AuditVisitor) -> Answer<()> {
    let mut held = database.hold().await?;
    let connection = held.connection();
    let meaning = |error: AuditError| match error {
        AuditError::Sql(error) => database.error(&error),
        AuditError::Ledger(error) => error,
    };
    sqlx::query("BEGIN").execute(&mut *connection).await.map_err(|error| database.error(&error))?;
    // On an error the connection goes, and its transaction with it.
    scan_all(connection, visitor).await.map_err(meaning)?;
    sqlx::query("COMMIT").execute(connection).await.map_err(|error| database.error(&error))?;
    held.give_back();
    Ok(())
}

async fn scan_all(
    connection: &mut SqliteConnection,
    visitor: &mut dyn AuditVisitor,
) -> Result<(), AuditError> {
    let identity = sqlx::query("SELECT id, created_at FROM ledger WHERE only_row = 1")
        .fetch_optional(&mut *connection)
        .await?
        .ok_or_else(|| corrupt("the ledger's identity", &"its row is missing"))?;
    let id: String = column("the ledger's id", &identity, "id")?;
    let created_at: String = column("the ledger's id", &identity, "created_at")?;
    let ledger = LedgerId::new(id.clone()).map_err(|error| corrupt("the ledger's id", &error))?;
    let head = match sqlx::query(HEAD).fetch_optional(&mut *connection).await? {
        Some(row) => {
            let what = "the head of the audit log";
            unpack(unsigned(what, &row, "size")?, &column::<Vec<u8>>(what, &row, "peaks")?)
        }
        None => AuditHead::default(),
    };
    visitor.head(&ledger, head);
    let mut from = 0;
    loop {
        let page = leaves_from(connection, from).await?;
        let Some(last) = page.last() else { break };
        from = signed("a leaf", last.index + 1)?;
        page.into_iter().for_each(|leaf| visitor.leaf(leaf));
    }
    visitor.record(AuditRecord {
        kind: AuditKind::Ledger,
        json: audit_identity(&id, &created_at),
        subject: id,
        format: AUDIT_PLAIN_FORMAT,
        odd: None,
    });
    for kind in AuditKind::ALL {
        scan_kind(connection, kind, visitor).await?;
    }
    Ok(())
}

/// Rows behind a kind: `cursor` numbers them, `subject`, `format` and `json` are what a leaf is about.
fn source(kind: AuditKind) -> Option<&'static str> {
    Some(match kind {
        AuditKind::Environment => {
            "SELECT row_number() OVER (ORDER BY app, environment) AS cursor, app || '/' || environment AS subject,
                    format, json, app, environment FROM environments"
        }
        AuditKind::Plan => {
            "SELECT rowid AS cursor, id AS subject, format, json, id, app, environment, kind FROM operations"
        }
        AuditKind::Entry => {
            "SELECT id AS cursor, operation || '/' || sequence AS subject, format, json,
                    CAST(epoch AS TEXT) AS epoch, at FROM entries"
        }
        AuditKind::Close => {
            "SELECT rowid AS cursor, id AS subject, 1 AS format, '' AS json FROM operations WHERE open = 0"
        }
        AuditKind::Release => {
            "SELECT rowid AS cursor, id AS subject, format, json, id, app, version, created_at FROM releases"
        }
        AuditKind::Deployment => {
            "SELECT rowid AS cursor, app || '/' || environment || '/' || number AS subject, format, json, app,
                    environment, CAST(number AS TEXT) AS number, id, kind, release, version, status,
                    iif(rejected, 'true', 'false') AS rejected, started_at,
                    CAST(started_at_ns AS TEXT) AS started_at_ns FROM deployments"
        }
        AuditKind::Rollback => {
            "SELECT rowid AS cursor, id AS subject, format, json, id, app, environment,
                    CAST(deployment_to AS TEXT) AS deployment_to, status FROM rollbacks"
        }
        AuditKind::Request => {
            "SELECT sequence AS cursor, id AS subject, format, json, id, app, environment, operation, kind
             FROM requests"
        }
        AuditKind::Answer => {
            "SELECT sequence AS cursor, id AS subject, 1 AS format, answer AS json FROM requests
             WHERE answer IS NOT NULL"
        }
        AuditKind::Ledger | AuditKind::Note => return None,
    })
}

/// Shows the records of a kind, a page at a time.
pub(super) async fn scan_kind(
    connection: &mut SqliteConnection,
    kind: AuditKind,
    visitor: &mut dyn AuditVisitor,
) -> Result<(), AuditError> {
    let Some(source) = source(kind) else { return Ok(()) };
    let sql = format!("SELECT * FROM ({source}) WHERE cursor > ? ORDER BY cursor LIMIT ?");
    let mut last = i64::MIN;
    loop {
        let rows = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(last)
            .bind(PAGE)
            .fetch_all(&mut *connection)
            .await?;
        for row in &rows {
            last = column(kind.as_str(), row, "cursor")?;
            visitor.record(read_record(kind, row)?);
        }
        if rows.is_empty() {
            return Ok(());
        }
    }
}

fn read_record(kind: AuditKind, row: &SqliteRow) -> Answer<AuditRecord> {
    let subject: String = column(kind.as_str(), row, "subject")?;
    let what = format!("{} {subject}", kind.as_str());
    let json: String = column(&what, row, "json")?;
    let mut texts = Vec::new();
    for (name, _) in columns::of(kind) {
        texts.push(column::<String>(&what, row, name)?);
    }
    let odd = columns::odd(kind, &json, &texts);
    Ok(AuditRecord { kind, format: column(&what, row, "format")?, odd, json, subject })
}
