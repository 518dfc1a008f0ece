//! What was kept elsewhere: public keys, checkpoints and exports.

use std::io::{BufReader, Read as _};
use std::path::Path;

use crate::registry::audit::checkpoint::{Checkpoint, origin_of};
use crate::registry::audit::note::{self, VerifierKey};
use crate::registry::audit::{
    ExportError, Finding, FindingKind, Keeper, Known, ReadExport, Report, Verifier, read_export,
};

use crate::error::CommandError;

/// Largest checkpoint or file of keys.
const MAX_BYTES: u64 = 1024 * 1024;

/// How an export begins, so that it is not taken for a checkpoint.
const EXPORT_START: &[u8] = b"{\"backout_audit_export\"";

/// The keys of `--key`.
pub(super) fn keys(given: &[String]) -> Result<Vec<VerifierKey>, CommandError> {
    let mut keys = Vec::new();
    for given in given {
        let text = match VerifierKey::parse(given) {
            Ok(key) => {
                keys.push(key);
                continue;
            }
            Err(error) if !Path::new(given).is_file() => {
                return Err(CommandError::usage(format!("failed to use the key {given}: {error}"))
                    .hint("`audit export` prints the public key; it has the form NAME+HASH+KEY"));
            }
            Err(_) => read_text(Path::new(given))?,
        };
        for line in text.lines() {
            let key = VerifierKey::parse(line).map_err(|error| {
                CommandError::usage(format!("failed to use a key in {given}: {error}"))
            })?;
            keys.push(key);
        }
    }
    Ok(keys)
}

fn unreadable(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::usage(format!("failed to read {}: {error}", path.display()))
}

fn read_text(path: &Path) -> Result<String, CommandError> {
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a file was found to be.
pub(super) enum Kept {
    /// It can be trusted.
    Known(Known),
    /// It can't, and why.
    Bad(Finding),
}

fn bad(source: &str, why: &str) -> Finding {
    Finding {
        kind: FindingKind::Checkpoint,
        leaf: None,
        subject: source.to_owned(),
        message: format!("{source} can't be trusted: {why}"),
    }
}

/// The checkpoint that the last export left in the state folder.
pub(super) fn remembered(keeper: &Keeper, more: &[VerifierKey]) -> Option<Kept> {
    let path = keeper.checkpoint_path();
    let source = format!("the last export's checkpoint ({})", path.display());
    let note = match keeper.remembered() {
        Ok(note) => note?,
        Err(error) => return Some(Kept::Bad(bad(&source, &error.to_string()))),
    };
    Some(opened(keeper, source, &note, more, Vec::new()))
}

fn opened(
    keeper: &Keeper,
    source: String,
    note: &str,
    more: &[VerifierKey],
    leaves: Vec<[u8; 32]>,
) -> Kept {
    match keeper.open(note, more) {
        Ok(Checkpoint { size, root, .. }) => Kept::Known(Known { source, size, root, leaves }),
        Err(why) => Kept::Bad(bad(&source, &why)),
    }
}

/// A checkpoint or an export of `--checkpoint`.
pub(super) fn given(
    keeper: &Keeper,
    path: &Path,
    more: &[VerifierKey],
) -> Result<Kept, CommandError> {
    let source = path.display().to_string();
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    file.take(EXPORT_START.len() as u64)
        .read_to_end(&mut start)
        .map_err(|error| unreadable(path, &error))?;
    if start != EXPORT_START {
        return Ok(opened(keeper, source, &read_text(path)?, more, Vec::new()));
    }
    Ok(match export(path)? {
        Ok((report, _)) if !report.verified() => {
            let finding = &report.findings[0];
            Kept::Bad(bad(&source, &format!("it does not agree with itself: {}", finding.message)))
        }
        Ok((report, read)) => match opened(keeper, source, &read.note, more, read.leaves) {
            Kept::Known(known) if known.size != report.leaves || known.root != report.root => {
                Kept::Bad(bad(&known.source, "its checkpoint is not one of its log"))
            }
            kept => kept,
        },
        Err(why) => Kept::Bad(bad(&source, &why)),
    })
}

/// Reads an export to its end; else in words where it stops to be one.
pub(super) fn export(path: &Path) -> Result<Result<(Report, ReadExport), String>, CommandError> {
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut verifier = Verifier::new(&[]);
    match read_export(BufReader::new(file), &mut verifier) {
        Ok(read) => Ok(Ok((verifier.finish(), read))),
        Err(ExportError::File { source, .. }) => Err(unreadable(path, &source)),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// The checkpoint of an export, signed by one of these keys and over just its log.
pub(super) fn signed(
    report: &Report,
    read: &ReadExport,
    keys: &[VerifierKey],
    path: &Path,
) -> Result<(), Finding> {
    let source = path.display().to_string();
    if keys.is_empty() {
        let why = "no key is known here: give the public key that you were handed with --key";
        return Err(bad(&source, why));
    }
    let text = note::open(&read.note, keys).map_err(|error| bad(&source, &error.to_string()))?;
    let checkpoint = Checkpoint::parse(text).map_err(|error| bad(&source, &error.to_string()))?;
    let same = checkpoint.origin == origin_of(&read.ledger)
        && checkpoint.size == report.leaves
        && checkpoint.root == report.root;
    if same { Ok(()) } else { Err(bad(&source, "its checkpoint is not one of its log")) }
}
