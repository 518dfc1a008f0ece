//! The plan before it runs, and the one question.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use backout_core::model::{ReadinessCheck, Severity};
use backout_core::plan::{Plan, PreviewCheck, preview};

use super::table::{Align, Table};
use super::text::{Text, error_width, of_severity};
use crate::cli::args::Global;
use crate::error::CommandError;

/// A person sits at a terminal.
#[must_use]
pub fn is_person() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Shows the plan on standard error.
pub fn show(plan: &Plan, checks: &[ReadinessCheck], warnings: &[String]) {
    let mut out = anstream::stderr();
    for line in lines(plan, checks, warnings, error_width()) {
        let _ = writeln!(out, "{line}");
    }
}

/// The plan, and what a person should know first, for a terminal of this width.
pub fn lines(
    plan: &Plan,
    checks: &[ReadinessCheck],
    warnings: &[String],
    width: usize,
) -> Vec<String> {
    let mut lines = plan_table(plan, width);
    let mut notes = Table::new(&[("", Align::Right), ("", Align::Left)]);
    for check in checks.iter().filter(|check| check.status != Severity::Pass) {
        let words = Text::from(&check.name).then(format!(": {}", check.message));
        notes.row([Text::new(of_severity(check.status), check.status.as_str()), words]);
    }
    for warning in warnings.iter().filter(|w| !checks.iter().any(|c| w.ends_with(&c.message))) {
        let kind = Severity::Warning;
        notes.row([Text::new(of_severity(kind), kind.as_str()), Text::from(warning)]);
    }
    lines.extend(notes.render(1, width, true));
    lines
}

/// Steps with what is before and after; where that does not fit, what is after them matters more.
fn plan_table(plan: &Plan, width: usize) -> Vec<String> {
    let head = [
        ("step", Align::Left),
        ("on", Align::Left),
        ("before", Align::Left),
        ("after", Align::Left),
    ];
    let steps = preview(plan);
    let mut table = Table::new(&head);
    for step in &steps {
        let cells = [&step.name, &step.subject, &step.before, &step.after];
        table.row(cells.map(|cell| Text::from(cell.as_str())));
    }
    let all = table.render(1, width, true);
    if all.len() <= steps.len() + 1 {
        return all;
    }
    let mut table = Table::new(&[head[0], head[1], head[3]]);
    for step in &steps {
        table.row([&step.name, &step.subject, &step.after].map(|cell| Text::from(cell.as_str())));
    }
    table.render(1, width, true)
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
