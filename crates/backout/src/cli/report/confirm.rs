//! The plan before it runs, and the one question.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use backout_core::model::{ReadinessCheck, Severity};
use backout_core::plan::{Plan, PreviewCheck, preview};
use comfy_table::Table;
use comfy_table::presets::NOTHING;

use crate::cli::args::Global;
use crate::error::CommandError;

/// A person sits at a terminal.
#[must_use]
pub fn is_person() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Shows the plan on standard error.
pub fn show(plan: &Plan, checks: &[ReadinessCheck], warnings: &[String]) {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["step", "on", "before", "after"]);
    for step in preview(plan) {
        table.add_row([step.name, step.subject, step.before, step.after]);
    }
    let mut out = anstream::stderr();
    let _ = writeln!(out, "{table}");
    for check in checks.iter().filter(|check| check.status != Severity::Pass) {
        let _ = writeln!(out, "{:>8} {}: {}", check.status.as_str(), check.name, check.message);
    }
    for warning in warnings.iter().filter(|w| !checks.iter().any(|c| w.ends_with(&c.message))) {
        let _ = writeln!(out, " warning {warning}");
    }
}

/// The plan as one JSON document.
#[must_use]
pub fn plan_json(plan: &Plan, checks: &[ReadinessCheck]) -> serde_json::Value {
    let checks: Vec<PreviewCheck> = checks.iter().map(PreviewCheck::from).collect();
    serde_json::json!({
        "digest": plan.digest(), "kind": plan.kind, "deployment": plan.deployment, "version": plan.version,
        "from_version": plan.from.as_ref().map(|live| &live.version), "steps": preview(plan), "checks": checks,
    })
}

/// For [`ask`], where a verb has it.
pub const DRY_RUN_FIRST: &str = "look at it with --dry-run, then ";

/// Asks once; `--yes` answers. Returns whether a person answered at the prompt.
///
/// `first` says what to do before that, where nobody can be asked.
///
/// # Errors
/// Refused without a terminal and without `--yes`, or by a no.
pub fn ask(global: &Global, question: &str, first: &str) -> Result<bool, CommandError> {
    if global.yes {
        return Ok(false);
    }
    if !is_person() {
        return Err(CommandError::refused(
            "no terminal to ask at, and no --yes: nothing was changed",
        )
        .hint(format!("{first}run it with --yes")));
    }
    let _ = write!(anstream::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(true),
        _ => Err(CommandError::refused("nothing was changed")),
    }
}
