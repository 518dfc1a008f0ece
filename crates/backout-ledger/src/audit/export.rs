//! A log in one file: a line that says whose, a line for each leaf (its very bytes), a line for each record that
//! stands, and a last line with the signed checkpoint.

use std::io::{self, BufRead, Read as _, Write};
use std::path::Path;

use backout_core::ids::{LedgerId, hex};
use backout_core::ports::audit::{AuditHead, AuditKind, AuditLeaf, AuditRecord, AuditVisitor};
use backout_core::ports::{Ledger, LedgerError};
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, origin_of};
use super::files::WholeFile;
use super::keeper::{Keeper, KeeperError, Signer};
use super::tree::{Hash, hash_leaf};
use super::verify::{Known, Report, Verifier};

/// Format of the file.
const EXPORT_FORMAT: u32 = 1;

/// Ends the name of an export in a folder.
pub const EXPORT_NAME_END: &str = ".audit.ndjson";

/// No record comes near this, as JSON in JSON.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// Why there is no export, or why it can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger can't be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What would be exported is not what was written: a signature would cover it up.
    #[error("refused to sign the log: it does not verify")]
    NotVerified(Box<Report>),
    /// The key or the checkpoint.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The file can't be written or read.
    #[error("failed to {what}: {source}")]
    File {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// It is no export, or not a whole one.
    #[error("line {line}: {message}")]
    Malformed {
        /// Which line, from 1.
        line: u64,
        /// What is wrong.
        message: String,
    },
}

#[derive(Serialize, Deserialize)]
struct First {
    backout_audit_export: u32,
    ledger: LedgerId,
    size: u64,
    peaks: Vec<String>,
    written_at: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    kind: AuditKind,
    subject: String,
    format: u32,
    json: String,
}

#[derive(Serialize, Deserialize)]
struct Last {
    records: u64,
    checkpoint: String,
    key: String,
}

/// What was exported.
pub struct Exported {
    /// What the check before it found: nothing wrong.
    pub report: Report,
    /// The signed note.
    pub note: String,
    /// The public key.
    pub key: String,
    /// How the key came.
    pub signer: Signer,
}

/// Writes what it is shown, and checks it.
struct Exporter {
    file: WholeFile,
    verifier: Verifier,
    records: u64,
    error: Option<io::Error>,
}

impl Exporter {
    fn line(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let written = self.file.write_all(bytes).and_then(|()| self.file.write_all(b"\n"));
        self.error = written.err();
    }

    fn json<T: Serialize>(&mut self, line: &T) {
        match serde_json::to_vec(line) {
            Ok(bytes) => self.line(&bytes),
            Err(error) => self.error = Some(error.into()),
        }
    }
}

impl AuditVisitor for Exporter {
    fn head(&mut self, ledger: &LedgerId, head: AuditHead) {
        self.json(&First {
            backout_audit_export: EXPORT_FORMAT,
            ledger: ledger.clone(),
            size: head.size,
            peaks: head.peaks.iter().map(|peak| hex(peak)).collect(),
            written_at: jiff::Timestamp::now().to_string(),
        });
        self.verifier.head(ledger, head);
    }

    fn leaf(&mut self, leaf: AuditLeaf) {
        self.line(&leaf.bytes());
        self.verifier.leaf(leaf);
    }

    fn record(&mut self, record: AuditRecord) {
        self.records += 1;
        let AuditRecord { kind, subject, format, json, .. } = record.clone();
        self.json(&Line { kind, subject, format, json });
        self.verifier.record(record);
    }
}

/// Checks a ledger, and writes its log with a signed checkpoint, which the keeper remembers.
///
/// # Errors
/// When it does not verify, can't be read, or the file can't be written: nothing is left then.
pub async fn export(
    ledger: &dyn Ledger,
    keeper: &Keeper,
    path: &Path,
    known: &[Known],
    seed: impl FnOnce() -> [u8; 32],
) -> Result<Exported, ExportError> {
    let failed =
        |source: io::Error| ExportError::File { what: format!("write {}", path.display()), source };
    let file = WholeFile::begin(path).map_err(failed)?;
    let mut exporter = Exporter { file, verifier: Verifier::new(known), records: 0, error: None };
    ledger.audit_scan(&mut exporter).await?;
    let Exporter { mut file, verifier, records, error } = exporter;
    let report = verifier.finish();
    if !report.verified() {
        return Err(ExportError::NotVerified(Box::new(report)));
    }
    if let Some(error) = error {
        return Err(failed(error));
    }
    let id = ledger.id().await?;
    let signer = keeper.signer(seed)?;
    let checkpoint = Checkpoint { origin: origin_of(&id), size: report.leaves, root: report.root };
    let signed = signer.key.sign(&checkpoint.text());
    let note = signed.map_err(|error| failed(io::Error::other(error)))?;
    let key = signer.key.verifier().text();
    let last = Last { records, checkpoint: note.clone(), key: key.clone() };
    let line = serde_json::to_string(&last).map_err(|error| failed(error.into()))?;
    writeln!(file, "{line}").and_then(|()| file.finish()).map_err(failed)?;
    keeper.remember(&note)?;
    Ok(Exported { report, note, key, signer })
}

/// Whether a file begins as an export of this ledger does: then it may be replaced by a newer one.
#[must_use]
pub fn is_export_of(path: &Path, ledger: &LedgerId) -> bool {
    let Ok(file) = fs_err::File::open(path) else { return false };
    let mut line = String::new();
    let mut start = io::BufReader::new(file.take(64 * 1024));
    start.read_line(&mut line).is_ok()
        && serde_json::from_str::<First>(&line).is_ok_and(|first| first.ledger == *ledger)
}

/// An export that was read to its end.
pub struct ReadExport {
    /// Whose.
    pub ledger: LedgerId,
    /// The signed note.
    pub note: String,
    /// The public key it says.
    pub key: String,
    /// Hashes of its leaves.
    pub leaves: Vec<Hash>,
}

/// Shows the log of an export to a visitor. Who signed it is not looked at here.
///
/// # Errors
/// With the line where it stops to be an export; a file that was cut has no last line.
pub fn read_export(
    input: impl BufRead,
    visitor: &mut dyn AuditVisitor,
) -> Result<ReadExport, ExportError> {
    let mut lines = Lines { input, number: 0 };
    let bytes = lines.next()?;
    let first: First = match serde_json::from_slice(&bytes) {
        Ok(first) => first,
        Err(error) => return Err(lines.wrong(format!("it is no export of an audit log: {error}"))),
    };
    if first.backout_audit_export != EXPORT_FORMAT {
        let found = first.backout_audit_export;
        return Err(lines.wrong(format!(
            "the export has format {found}, this version reads {EXPORT_FORMAT}; use the newer backout"
        )));
    }
    let peaks: Option<Vec<Hash>> = first.peaks.iter().map(|peak| unhex(peak)).collect();
    let peaks = peaks.ok_or_else(|| lines.wrong("a hash in it is none".to_owned()))?;
    visitor.head(&first.ledger, AuditHead { size: first.size, peaks });
    let mut leaves = Vec::new();
    for index in 0..first.size {
        let bytes = lines.next()?;
        let leaf = AuditLeaf::parse(index, &bytes);
        let leaf =
            leaf.ok_or_else(|| lines.wrong(format!("leaf {index} is not written as one")))?;
        leaves.push(hash_leaf(&bytes));
        visitor.leaf(leaf);
    }
    let mut records = 0;
    loop {
        let bytes = lines.next()?;
        if let Ok(Line { kind, subject, format, json }) = serde_json::from_slice(&bytes) {
            records += 1;
            visitor.record(AuditRecord { kind, subject, format, json, odd: None });
            continue;
        }
        let last: Last = serde_json::from_slice(&bytes)
            .map_err(|_| lines.wrong("it is neither a record nor the last line".to_owned()))?;
        if last.records != records {
            let message =
                format!("{records} records stand before it, and it counts {}", last.records);
            return Err(lines.wrong(message));
        }
        lines.end()?;
        let Last { checkpoint, key, .. } = last;
        return Ok(ReadExport { ledger: first.ledger, note: checkpoint, key, leaves });
    }
}

fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(hash)
}

struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// A line without its end.
    fn next(&mut self) -> Result<Vec<u8>, ExportError> {
        self.number += 1;
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes);
        read.map_err(|source| ExportError::File { what: "read the export".to_owned(), source })?;
        match bytes.pop() {
            Some(b'\n') => Ok(bytes),
            _ => Err(self.wrong("the file ends here; it was cut off".to_owned())),
        }
    }

    fn end(&mut self) -> Result<(), ExportError> {
        self.number += 1;
        let rest = self.input.fill_buf();
        let rest = rest
            .map_err(|source| ExportError::File { what: "read the export".to_owned(), source })?;
        if rest.is_empty() {
            Ok(())
        } else {
            Err(self.wrong("something stands behind the last line".to_owned()))
        }
    }

    fn wrong(&self, message: String) -> ExportError {
        ExportError::Malformed { line: self.number, message }
    }
}
