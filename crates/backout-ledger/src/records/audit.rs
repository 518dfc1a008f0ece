//! The audit log in the database: leaves that go in with what they are about, and everything shown to a check.

use backout_core::ids::LedgerId;
use backout_core::ports::LedgerError;
use backout_core::ports::audit::{
    AUDIT_PLAIN_FORMAT, AuditHead, AuditKind, AuditLeaf, AuditRecord, AuditVisitor, audit_identity,
};

use super::codec::{column, corrupt, signed, unsigned};
use super::store::{Look, Row, Statement, Store, Write};
use crate::audit::{Pending, columns, pack, rebuild, unpack};

type Answer<T> = Result<T, LedgerError>;

/// Leaves that go in with one statement.
const LEAVES_PER_STATEMENT: usize = 100;

/// Rows that are read at once.
const PAGE: i64 = 1000;

const HEAD: &str = "the head of the audit log";

const LEAF_COLUMNS: &str = "SELECT leaf, kind, subject, format, digest, at FROM audit_leaves";

/// Appends in a transaction. A log that was tampered with is continued all the same: a way back must not wait for
/// it, and a check tells.
pub(crate) async fn append(write: &mut dyn Write, mut pending: Pending) -> Answer<()> {
    if pending.is_empty() {
        return Ok(());
    }
    let head = match head_that_fits(write, pending.len()).await? {
        Some(head) => head,
        None => {
            let head = rebuild_head(write).await?;
            tracing::warn!(leaves = head.size, "{HEAD} was damaged and is made anew");
            let note = format!("{HEAD} was damaged and was made anew at leaf {}", head.size);
            pending.push(AuditKind::Note, note, AUDIT_PLAIN_FORMAT, "");
            head
        }
    };
    let misfit = || corrupt(HEAD, &"its hashes do not fit its size");
    let (leaves, head) = pending.seal(&head).ok_or_else(misfit)?;
    for part in leaves.chunks(LEAVES_PER_STATEMENT) {
        insert(write, part).await?;
    }
    let statement = Statement::new(
        "INSERT INTO audit_head (only_row, size, peaks) VALUES (1, $1, $2)
         ON CONFLICT (only_row) DO UPDATE SET size = excluded.size, peaks = excluded.peaks",
    )
    .bind(signed("the size of the audit log", head.size)?)
    .bind(pack(&head));
    write.execute(statement).await.map(|_| ())
}

/// None if it does not fit the leaves, or leaves stand where the next ones belong.
async fn head_that_fits(write: &mut dyn Write, room: usize) -> Answer<Option<AuditHead>> {
    let statement = Statement::new(
        "SELECT size, peaks, (SELECT count(*) FROM audit_leaves WHERE leaf = size - 1) AS ends,
                (SELECT count(*) FROM audit_leaves WHERE leaf >= size AND leaf < size + $1) AS beyond
         FROM audit_head WHERE only_row = 1",
    )
    .bind(i64::try_from(room).unwrap_or(i64::MAX));
    let Some(row) = write.fetch_optional(statement).await? else { return Ok(None) };
    let head = read_head(&row)?;
    let ends = head.size == 0 || unsigned(HEAD, &row, "ends")? == 1;
    let fits = ends && unsigned(HEAD, &row, "beyond")? == 0;
    Ok((fits && head.peaks.len() == head.size.count_ones() as usize).then_some(head))
}

fn read_head(row: &Row) -> Answer<AuditHead> {
    Ok(unpack(unsigned(HEAD, row, "size")?, &column::<Vec<u8>>(HEAD, row, "peaks")?))
}

async fn rebuild_head(write: &mut dyn Write) -> Answer<AuditHead> {
    let mut leaves: Vec<AuditLeaf> = Vec::new();
    loop {
        let from = leaves.last().map_or(Ok(-1), |leaf| signed("a leaf", leaf.index))?;
        let statement =
            Statement::new(format!("{LEAF_COLUMNS} WHERE leaf > $1 ORDER BY leaf LIMIT 1"))
                .bind(from);
        match write.fetch_optional(statement).await? {
            Some(row) => leaves.push(read_leaf(&row)?),
            None => return Ok(rebuild(&leaves)),
        }
    }
}

async fn insert(write: &mut dyn Write, leaves: &[AuditLeaf]) -> Answer<()> {
    let mut statement = Statement::new(
        "INSERT INTO audit_leaves (leaf, kind, subject, format, digest, at) VALUES ",
    );
    for (position, leaf) in leaves.iter().enumerate() {
        statement.push(if position == 0 { "(" } else { ", (" }, signed("a leaf", leaf.index)?);
        statement.push(", ", leaf.kind.as_str());
        statement.push(", ", leaf.subject.as_str());
        statement.push(", ", leaf.format);
        statement.push(", ", &leaf.digest[..]);
        statement.push(", ", leaf.at.as_str());
        statement.push_sql(")");
    }
    write.execute(statement).await.map(|_| ())
}

fn read_leaf(row: &Row) -> Answer<AuditLeaf> {
    let index = unsigned("a leaf of the audit log", row, "leaf")?;
    let what = format!("leaf {index} of the audit log");
    let digest: Vec<u8> = column(&what, row, "digest")?;
    Ok(AuditLeaf {
        index,
        kind: column(&what, row, "kind")?,
        subject: column(&what, row, "subject")?,
        format: format_of(&what, row)?,
        digest: digest.try_into().map_err(|_| corrupt(&what, &"its digest has another length"))?,
        at: column(&what, row, "at")?,
    })
}

fn format_of(what: &str, row: &Row) -> Answer<u32> {
    let format: i64 = column(what, row, "format")?;
    u32::try_from(format).map_err(|_| corrupt(what, &format!("its format is {format}")))
}

/// Shows everything, as of one moment.
pub(super) async fn scan(store: &dyn Store, visitor: &mut dyn AuditVisitor) -> Answer<()> {
    let mut look = store.look().await?;
    scan_all(look.as_mut(), visitor).await?;
    look.end().await
}

/// Shows everything of one moment.
pub(crate) async fn scan_all(look: &mut dyn Look, visitor: &mut dyn AuditVisitor) -> Answer<()> {
    let what = "the ledger's identity";
    let statement = Statement::new("SELECT id, created_at FROM ledger WHERE only_row = 1");
    let rows = look.fetch_all(statement).await?;
    let row = rows.first().ok_or_else(|| corrupt(what, &"its row is missing"))?;
    let (id, created_at): (String, String) =
        (column(what, row, "id")?, column(what, row, "created_at")?);
    let ledger = LedgerId::new(id.clone()).map_err(|error| corrupt(what, &error))?;
    let statement = Statement::new("SELECT size, peaks FROM audit_head WHERE only_row = 1");
    let head = look.fetch_all(statement).await?.first().map(read_head).transpose()?;
    visitor.head(&ledger, head.unwrap_or_default());
    let mut from = 0;
    loop {
        let page = format!("{LEAF_COLUMNS} WHERE leaf >= $1 ORDER BY leaf LIMIT $2");
        let rows = look.fetch_all(Statement::new(page).bind(from).bind(PAGE)).await?;
        if rows.is_empty() {
            break;
        }
        let mut last = None;
        for row in &rows {
            let leaf = read_leaf(row)?;
            last = signed("a leaf", leaf.index)?.checked_add(1);
            visitor.leaf(leaf);
        }
        // Nothing can stand behind the largest number.
        let Some(next) = last else { break };
        from = next;
    }
    visitor.record(AuditRecord {
        kind: AuditKind::Ledger,
        json: audit_identity(&id, &created_at),
        subject: id,
        format: AUDIT_PLAIN_FORMAT,
        odd: None,
    });
    for kind in AuditKind::ALL {
        scan_kind(look, kind, visitor).await?;
    }
    Ok(())
}

/// Rows behind a kind by their `place`: `subject` and `json` are what a leaf is about.
fn source(kind: AuditKind) -> Option<&'static str> {
    Some(match kind {
        AuditKind::Environment => {
            "SELECT app || '/' || environment AS place, app || '/' || environment AS subject,
                    format, json, app, environment FROM environments WHERE app || '/' || environment > $1"
        }
        AuditKind::Plan => {
            "SELECT id AS place, id AS subject, format, json, id, app, environment, kind
             FROM operations WHERE id > $1"
        }
        AuditKind::Entry => {
            "SELECT id AS place, operation || '/' || sequence AS subject, format, json,
                    CAST(epoch AS TEXT) AS epoch, at FROM entries WHERE id > $1"
        }
        AuditKind::Close => {
            "SELECT id AS place, id AS subject, format, '' AS json FROM operations
             WHERE open = 0 AND id > $1"
        }
        AuditKind::Release => {
            "SELECT id AS place, id AS subject, format, json, id, app, version, created_at
             FROM releases WHERE id > $1"
        }
        AuditKind::Deployment => {
            "SELECT id AS place, app || '/' || environment || '/' || number AS subject, format, json,
                    app, environment, CAST(number AS TEXT) AS number, id, kind, release, version, status,
                    CASE rejected WHEN 0 THEN 'false' ELSE 'true' END AS rejected, started_at,
                    CAST(started_at_ns AS TEXT) AS started_at_ns FROM deployments WHERE id > $1"
        }
        AuditKind::Rollback => {
            "SELECT id AS place, id AS subject, format, json, id, app, environment,
                    CAST(deployment_to AS TEXT) AS deployment_to, status FROM rollbacks WHERE id > $1"
        }
        AuditKind::Request => {
            "SELECT id AS place, id AS subject, format, json, id, app, environment, operation, kind
             FROM requests WHERE id > $1"
        }
        AuditKind::Answer => {
            "SELECT id AS place, id AS subject, format, answer AS json FROM requests
             WHERE answer IS NOT NULL AND id > $1"
        }
        AuditKind::Ledger | AuditKind::Note => return None,
    })
}

/// Shows the records of a kind, a page at a time.
pub(crate) async fn scan_kind(
    look: &mut dyn Look,
    kind: AuditKind,
    visitor: &mut dyn AuditVisitor,
) -> Answer<()> {
    let Some(source) = source(kind) else { return Ok(()) };
    let (mut number, mut text) = (i64::MIN, String::new());
    loop {
        let page = Statement::new(format!("{source} ORDER BY place LIMIT $2"));
        let page =
            if kind == AuditKind::Entry { page.bind(number) } else { page.bind(text.as_str()) };
        let rows = look.fetch_all(page.bind(PAGE)).await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in &rows {
            match kind {
                AuditKind::Entry => number = column("an entry", row, "place")?,
                _ => text = column(kind.as_str(), row, "place")?,
            }
            visitor.record(read_record(kind, row)?);
        }
    }
}

fn read_record(kind: AuditKind, row: &Row) -> Answer<AuditRecord> {
    let subject: String = column(kind.as_str(), row, "subject")?;
    let what = format!("{} {subject}", kind.as_str());
    let json: String = column(&what, row, "json")?;
    let mut texts = Vec::new();
    for (name, _) in columns::of(kind) {
        texts.push(column::<String>(&what, row, name)?);
    }
    let odd = columns::odd(kind, &json, &texts);
    let format = match kind {
        // The row's format is that of its plan or request.
        AuditKind::Close | AuditKind::Answer => AUDIT_PLAIN_FORMAT,
        _ => format_of(&what, row)?,
    };
    Ok(AuditRecord { kind, subject, format, json, odd })
}
