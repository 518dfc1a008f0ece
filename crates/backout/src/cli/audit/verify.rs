//! `backout audit verify`.

use std::path::Path;

use crate::registry::audit::{self, Finding, Keeper, Known, Report};
use backout_core::ids::LedgerId;

use super::super::args::{AuditVerify, Global};
use super::super::session;
use super::report::{self, Outcome};
use super::trust::{self, Kept};
use super::{Opened, state};
use crate::error::CommandError;
use crate::exit_code;

/// Runs the verb.
pub(super) async fn run(global: &Global, args: &AuditVerify) -> Result<u8, CommandError> {
    let outcome = match &args.export {
        Some(path) => of_export(global, args, path)?,
        None => {
            let opened = Opened::open(global).await?;
            let outcome = of_ledger(args, &opened).await;
            opened.close().await;
            outcome?
        }
    };
    report::show(global.format, &outcome);
    Ok(if outcome.report.verified() { exit_code::OK } else { exit_code::FAILED })
}

async fn of_ledger(args: &AuditVerify, opened: &Opened) -> Result<Outcome, CommandError> {
    let failed = |error| session::ledger_error(&error);
    let id = opened.ledger.as_dyn().id().await.map_err(failed)?;
    let keeper = Keeper::new(&opened.state.path, &id);
    let keys = trust::keys(&args.key)?;
    let (mut known, mut bad) = (Vec::new(), Vec::new());
    let mut kept = Vec::from_iter(trust::remembered(&keeper, &keys));
    for path in &args.checkpoint {
        kept.push(trust::given(&keeper, path, &keys)?);
    }
    for kept in kept {
        match kept {
            Kept::Known(checkpoint) => known.push(checkpoint),
            Kept::Bad(finding) => bad.push(finding),
        }
    }
    let mut report = audit::verify(opened.ledger.as_dyn(), &known).await.map_err(failed)?;
    let warnings = warnings(&keeper, &known, &bad);
    report.findings.extend(bad);
    Ok(Outcome { report, known, warnings })
}

fn warnings(keeper: &Keeper, known: &[Known], bad: &[Finding]) -> Vec<String> {
    if !known.is_empty() || !bad.is_empty() {
        return Vec::new();
    }
    let others = keeper.others();
    let mut warnings = Vec::new();
    if !others.is_empty() {
        warnings.push(format!(
            "the state folder has checkpoints of another ledger ({}): was this one put in its place?",
            others.join(", ")
        ));
    }
    warnings.push(
        "nothing outside of the ledger vouches for it yet: run `backout audit export --to DIR` and keep the file \
         elsewhere"
            .to_owned(),
    );
    warnings
}

/// An export by itself: its own log, its records, its signature.
fn of_export(global: &Global, args: &AuditVerify, path: &Path) -> Result<Outcome, CommandError> {
    let mut keys = trust::keys(&args.key)?;
    let (mut report, read) = match trust::export(path)? {
        Ok(read) => read,
        Err(why) => {
            return Err(CommandError::failed(format!(
                "failed to verify {}: {why}",
                path.display()
            ))
            .hint("ask for the file again; a whole one ends with its checkpoint"));
        }
    };
    if let Ok(state) = state(global) {
        keys.extend(own_keys(&state.path, &read.ledger)?);
    }
    let mut known = Vec::new();
    match trust::signed(&report, &read, &keys, path) {
        Ok(()) => known.push(Known {
            source: format!("the signed checkpoint in {}", path.display()),
            size: report.leaves,
            root: report.root,
            leaves: Vec::new(),
        }),
        Err(finding) => report.findings.push(finding),
    }
    Ok(Outcome {
        report: Report { ledger: Some(read.ledger), ..report },
        known,
        warnings: Vec::new(),
    })
}

fn own_keys(
    state: &Path,
    ledger: &LedgerId,
) -> Result<Vec<audit::note::VerifierKey>, CommandError> {
    let keys = Keeper::new(state, ledger).public_keys();
    keys.map_err(|error| CommandError::failed(error.to_string()))
}
