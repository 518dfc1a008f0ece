//! `backout audit export`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::registry::audit::{
    self, EXPORT_NAME_END, ExportError, Exported, Keeper, Known, Report, is_export_of,
};
use backout_core::ids::LedgerId;
use serde_json::json;

use super::super::args::{AuditExport, Format, Global};
use super::super::report::json as documents;
use super::super::session;
use super::Opened;
use super::report::{self, Outcome, base64_of};
use super::trust::{self, Kept};
use crate::error::CommandError;
use crate::exit_code;

/// Runs the verb.
pub(super) async fn run(global: &Global, args: &AuditExport) -> Result<u8, CommandError> {
    let opened = Opened::open(global).await?;
    let result = export(global, args, &opened).await;
    opened.close().await;
    result
}

async fn export(global: &Global, args: &AuditExport, opened: &Opened) -> Result<u8, CommandError> {
    let id = opened.ledger.as_dyn().id().await.map_err(|error| session::ledger_error(&error))?;
    let keeper = Keeper::new(&opened.state.path, &id);
    let path = place(&args.to, &id)?;
    let mut kept = Vec::from_iter(
        trust::remembered(&keeper, &[]).map(|kept| (kept, keeper.checkpoint_path())),
    );
    if path.exists() {
        // What is written over must be the beginning of what is written.
        kept.push((trust::given(&keeper, &path, &[])?, path.clone()));
    }
    let mut known = Vec::new();
    for (kept, from) in kept {
        match kept {
            Kept::Known(checkpoint) => known.push(checkpoint),
            Kept::Bad(finding) => {
                let message = format!("refused to sign the log: {}", finding.message);
                let hint = format!("see to it, then move {} away to begin anew", from.display());
                return Err(CommandError::failed(message).hint(hint));
            }
        }
    }
    match audit::export(opened.ledger.as_dyn(), &keeper, &path, &known, seed).await {
        Ok(exported) => {
            show(global.format, &exported, &id, &path);
            Ok(exit_code::OK)
        }
        Err(ExportError::NotVerified(report)) => {
            not_verified(global.format, *report, known, &keeper);
            Ok(exit_code::FAILED)
        }
        Err(ExportError::Ledger(error)) => Err(session::ledger_error(&error)),
        Err(error) => Err(CommandError::failed(error.to_string())),
    }
}

/// The file that is written. Nothing but an older export of this ledger is written over.
fn place(to: &Path, ledger: &LedgerId) -> Result<PathBuf, CommandError> {
    let path =
        if to.is_dir() { to.join(format!("{ledger}{EXPORT_NAME_END}")) } else { to.to_owned() };
    let there = fs_err::symlink_metadata(&path).is_ok();
    if there && !is_export_of(&path, ledger) {
        let name = path.display();
        return Err(CommandError::refused(format!(
            "{name} is there, and is no export of this ledger: it is not written over"
        ))
        .hint("name another file, or a folder"));
    }
    Ok(path)
}

/// A new private key.
fn seed() -> [u8; 32] {
    let mut bytes = [0; 32];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(got, Ok(bytes.len()), "the kernel gives small amounts of randomness whole");
    bytes
}

fn not_verified(format: Format, report: Report, known: Vec<Known>, keeper: &Keeper) {
    let mut warnings = vec!["nothing was signed or written".to_owned()];
    if !known.is_empty() {
        warnings.push(format!(
            "if an older ledger was put back on purpose, move {} away; the next export begins anew",
            keeper.checkpoint_path().display()
        ));
    }
    report::show(format, &Outcome { report, known, warnings });
}

fn show(format: Format, exported: &Exported, ledger: &LedgerId, path: &Path) {
    let Exported { report, note, key, signer } = exported;
    let mut warnings = Vec::new();
    if signer.replaces_lost {
        warnings.push(
            "the key that signed before is gone and a new one was made: give its public half to whoever keeps \
             checkpoints",
        );
    }
    if format == Format::Json {
        documents::print(&json!({
            "ledger": ledger, "file": path, "leaves": report.leaves, "records": report.records,
            "entries": report.entries, "root": base64_of(&report.root), "checkpoint": note, "key": key,
            "new_key": signer.is_new, "notes": report.notes, "warnings": warnings,
        }));
        return;
    }
    let mut out = anstream::stdout().lock();
    let _ = writeln!(
        out,
        "wrote {} with {} leaves of ledger {ledger}\nkey   {key}\n\n{note}",
        path.display(),
        report.leaves
    );
    let _ = writeln!(
        out,
        "Keep the file, or just these lines, where whoever can change the ledger can't."
    );
    for warning in warnings {
        let _ = writeln!(anstream::stderr(), "warning: {warning}");
    }
}
