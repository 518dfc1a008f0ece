//! What a check found, for people and programs.

use std::io::Write as _;

use crate::registry::audit::checkpoint::Checkpoint;
use crate::registry::audit::{Finding, Known, Report};
use serde_json::{Value, json};

use super::super::args::Format;
use super::super::report::json as documents;
use super::super::report::text::{bad, good};

/// A check with what it was made against.
pub(super) struct Outcome {
    pub(super) report: Report,
    pub(super) known: Vec<Known>,
    pub(super) warnings: Vec<String>,
}

/// A hash as checkpoints write it.
pub(super) fn base64_of(root: &[u8; 32]) -> String {
    let text = Checkpoint { origin: String::new(), size: 0, root: *root }.text();
    text.lines().nth(2).unwrap_or_default().to_owned()
}

pub(super) fn show(format: Format, outcome: &Outcome) {
    match format {
        Format::Json => documents::print(&document(outcome)),
        Format::Table => {
            let _ = write!(anstream::stdout(), "{}", text(outcome));
            for warning in &outcome.warnings {
                let _ = writeln!(anstream::stderr(), "warning: {warning}");
            }
        }
    }
}

fn document(outcome: &Outcome) -> Value {
    let Outcome { report, known, warnings } = outcome;
    let finding = |finding: &Finding| {
        json!({
            "kind": finding.kind.as_str(), "leaf": finding.leaf, "subject": finding.subject,
            "message": finding.message,
        })
    };
    let checkpoint = |known: &Known| json!({ "source": known.source, "leaves": known.size, "root": base64_of(&known.root) });
    json!({
        "verified": report.verified(), "ledger": report.ledger, "leaves": report.leaves,
        "records": report.records, "entries": report.entries, "root": base64_of(&report.root),
        "checkpoints": known.iter().map(checkpoint).collect::<Value>(),
        "findings": report.findings.iter().map(finding).collect::<Value>(), "more_findings": report.more,
        "notes": report.notes, "warnings": warnings,
    })
}

fn text(outcome: &Outcome) -> String {
    let Outcome { report, known, .. } = outcome;
    let ledger = report.ledger.as_ref().map_or_else(String::new, |id| format!(" of ledger {id}"));
    let size = format!(
        "{} leaves, {} records, {} of them journal entries",
        report.leaves, report.records, report.entries
    );
    let mut text = if report.verified() {
        let good = good();
        format!("{good}verified{good:#}: the history{ledger} is as it was written ({size})\n")
    } else {
        let bad = bad();
        let count = report.findings.len() as u64 + report.more;
        let things = if count == 1 { "1 thing is" } else { &format!("{count} things are") };
        format!("{bad}NOT verified{bad:#}: {things} wrong in the history{ledger} ({size})\n")
    };
    for finding in &report.findings {
        text.push_str(&format!("  {:<10}  {}\n", finding.kind.as_str(), finding.message));
    }
    if report.more > 0 {
        text.push_str(&format!("  and {} more\n", report.more));
    }
    for known in known {
        text.push_str(&format!("checked against {} ({} leaves)\n", known.source, known.size));
    }
    for note in &report.notes {
        text.push_str(&format!("the log remarks: {note}\n"));
    }
    text.push_str(&format!("root {}\n", base64_of(&report.root)));
    text
}
