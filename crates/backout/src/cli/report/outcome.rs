//! How an operation ended: exit code, and the table that people see.

use std::io::Write as _;

use backout_core::model::{OperationKind, RollbackRecord};
use backout_core::saga::{Ending, step_records};
use backout_engine::{Finished, Outcome};

use super::table::Fields;
use super::text::{Text, terminal_width};
use super::{json, words};
use crate::cli::args::{Format, Global};
use crate::error::CommandError;
use crate::exit_code;

/// The exit code of a run (`INTERFACES`, "One operation's end").
#[must_use]
pub fn code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Stuck { .. } => exit_code::STUCK,
        Outcome::Stopped { .. } => exit_code::STOPPED_WATCHING,
        // Whoever took it over goes on with it; this one only watches no more.
        Outcome::Lost { taken_over: true, .. } => exit_code::STOPPED_WATCHING,
        Outcome::Lost { .. } => exit_code::STUCK,
        Outcome::Yielded { superseded: true, .. } => exit_code::STOPPED_WATCHING,
        Outcome::Yielded { operation, .. } if operation.plan.kind == OperationKind::Deploy => {
            exit_code::ROLLED_BACK
        }
        Outcome::Yielded { .. } => exit_code::STOPPED_WATCHING,
        Outcome::Ended { operation, ending, then } => ended(operation, ending, then.as_deref()),
    }
}

fn ended(operation: &Finished, ending: &Ending, then: Option<&Outcome>) -> u8 {
    match (ending, then) {
        (Ending::Done { healthy: true }, _) => exit_code::OK,
        (Ending::Done { healthy: false }, _) => exit_code::ROLLED_BACK_UNHEALTHY,
        (Ending::NothingChanged { .. } | Ending::Resolved { .. }, _) => exit_code::FAILED,
        (Ending::FailedLive { .. }, _) => exit_code::LEFT_LIVE,
        (Ending::Superseded { .. }, _) => exit_code::STOPPED_WATCHING,
        (Ending::TakenBack { .. }, None) => exit_code::ROLLED_BACK,
        // A rollback that had to be planned anew ends as the second one does.
        (Ending::TakenBack { .. }, Some(back))
            if operation.plan.kind == OperationKind::Rollback =>
        {
            code(back)
        }
        (Ending::TakenBack { .. }, Some(back)) => match code(back) {
            // A first deployment that was removed again left nothing live.
            exit_code::OK if operation.plan.from.is_none() => exit_code::FAILED,
            exit_code::OK => exit_code::ROLLED_BACK,
            // Whoever took the way back over ends it.
            _ if matches!(back.last(), Outcome::Yielded { superseded: false, .. }) => {
                exit_code::ROLLED_BACK
            }
            other => other,
        },
    }
}

/// Prints the end, and returns the exit code.
pub fn print(global: &Global, outcome: &Outcome) -> u8 {
    print_as(global, outcome, code(outcome))
}

/// The same for `abort`: a deploy that is taken back, or never changed anything, is what was asked for. What became of
/// it instead is said as ever.
pub fn print_aborted(global: &Global, outcome: &Outcome) -> u8 {
    let code = match code(outcome) {
        exit_code::ROLLED_BACK | exit_code::FAILED => exit_code::OK,
        other => other,
    };
    print_as(global, outcome, code)
}

fn print_as(global: &Global, outcome: &Outcome, code: u8) -> u8 {
    match global.format {
        Format::Json => json::print(&document(outcome, code)),
        // The words tell what became of it, whoever asked for that.
        Format::Table => table(outcome),
    }
    if matches!(outcome.last(), Outcome::Stuck { .. } | Outcome::Lost { taken_over: false, .. }) {
        stuck(outcome).print();
    }
    code
}

fn document(outcome: &Outcome, code: u8) -> serde_json::Value {
    let operation = outcome.operation();
    let rollback = (operation.plan.kind == OperationKind::Rollback)
        .then(|| json::rollback_of(operation))
        .flatten();
    rollback.unwrap_or_else(|| json::outcome(outcome, code))
}

fn stuck(outcome: &Outcome) -> CommandError {
    let operation = outcome.last().operation();
    let environment = &operation.plan.key.environment;
    let step = operation
        .state
        .current()
        .map_or("its end", |step| operation.plan.steps[step].name.as_str());
    match outcome.last() {
        Outcome::Lost { reason, .. } => {
            CommandError::failed(format!("stopped at {step}: {reason}"))
                .hint(format!("continue with: backout recover -e {environment}"))
        }
        Outcome::Stuck { reason, .. } => CommandError::failed(format!("stuck at {step}: {reason}"))
            .hint(format!("mend the cause, then: backout retry -e {environment}"))
            .hint(format!("or go back: backout rollback -e {environment}"))
            .hint(format!("or end it as it is: backout resolve -e {environment} --reason TEXT")),
        _ => CommandError::failed("ended"),
    }
}

fn headline(outcome: &Outcome, code: u8) -> String {
    let operation = outcome.operation();
    let plan = &operation.plan;
    let names: Vec<&str> = plan.services.iter().map(|name| name.as_str()).collect();
    let only = if names.is_empty() { String::new() } else { format!(" of {}", names.join(", ")) };
    let what = format!(
        "{}{}{}{only}",
        plan.kind,
        plan.deployment.map(|n| format!(" #{n}")).unwrap_or_default(),
        plan.version.as_ref().map(|v| format!(" {v}")).unwrap_or_default()
    );
    let end = match (code, outcome) {
        (exit_code::OK, _) if plan.kind == OperationKind::Down => "stopped".to_owned(),
        (exit_code::OK, _) => match &operation.rows.deployment {
            Some(row) => row.status.to_string(),
            None => "done".to_owned(),
        },
        (exit_code::ROLLED_BACK, Outcome::Yielded { .. }) => "taken over by a rollback".to_owned(),
        (exit_code::ROLLED_BACK, _) => "rolled back, healthy".to_owned(),
        (exit_code::ROLLED_BACK_UNHEALTHY, _) => "rolled back, UNHEALTHY".to_owned(),
        (exit_code::STUCK, _) => "STUCK".to_owned(),
        (exit_code::LEFT_LIVE, _) => "FAILING and left live (rollback.automatic is off)".to_owned(),
        (exit_code::STOPPED_WATCHING, Outcome::Yielded { .. } | Outcome::Lost { .. }) => {
            "superseded or taken over".to_owned()
        }
        (exit_code::STOPPED_WATCHING, _) if outcome.last().operation().state.handed_over => {
            "handed over; `backout status` shows who goes on with it".to_owned()
        }
        (exit_code::STOPPED_WATCHING, _) => {
            "not watched any more; `backout recover` goes on, `backout status` shows it".to_owned()
        }
        (_, Outcome::Ended { ending: Ending::NothingChanged { message }, .. }) => {
            format!("failed, nothing was changed: {message}")
        }
        (_, Outcome::Ended { then: Some(_), .. }) => {
            "failed and removed again, nothing is live".to_owned()
        }
        _ => "ended".to_owned(),
    };
    format!("{what} in {}: {end}", plan.key)
}

fn table(outcome: &Outcome) {
    let mut out = anstream::stdout();
    for line in lines(outcome, terminal_width()) {
        let _ = writeln!(out, "{line}");
    }
}

/// The end for people, on a terminal of this width.
pub fn lines(outcome: &Outcome, width: usize) -> Vec<String> {
    let headline = Text::from(headline(outcome, code(outcome)));
    let mut lines: Vec<String> = headline.wrapped(width).iter().map(Text::styled).collect();
    let last = outcome.last().operation();
    if let Some(record) = &last.rows.rollback {
        lines.extend(rollback_fields(record, last).render(3, width));
    }
    let mut because = Fields::default();
    for line in evidence(outcome) {
        because.add("because", line);
    }
    lines.extend(because.render(2, width));
    lines
}

fn evidence(outcome: &Outcome) -> Vec<String> {
    match outcome {
        Outcome::Ended { ending: Ending::TakenBack { failure: Some(failure), .. }, .. }
        | Outcome::Ended { ending: Ending::FailedLive { failure }, .. } => failure.evidence.clone(),
        _ => Vec::new(),
    }
}

/// A rollback for people: what, why, and how long each phase took.
fn rollback_fields(record: &RollbackRecord, operation: &Finished) -> Fields {
    let mut fields = Fields::default();
    let from = record.from_version.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut row =
        |name: &str, value: String| fields.add_some(name, (!value.is_empty()).then_some(value));
    row(
        "from",
        format!("{} {from}", record.deployment_from.map(|n| format!("#{n}")).unwrap_or_default()),
    );
    row("to", format!("#{} {}", record.deployment_to, record.target_version));
    row("type", record.rollback_type.to_string());
    let names: Vec<&str> = record.services.iter().map(|name| name.as_str()).collect();
    if !names.is_empty() {
        row("services", format!("only {}", names.join(", ")));
    }
    row("trigger", record.trigger.to_string());
    row("reason", record.reason.clone().unwrap_or_default());
    if let Some(safe) = record.traffic_safe_at {
        let ms = safe.as_millisecond() - record.started_at.as_millisecond();
        row("users safe after", words::duration(u64::try_from(ms).unwrap_or(0)));
    }
    row("took", record.duration_ms.map(words::duration).unwrap_or_default());
    row("reverted", record.changes_reverted.join(", "));
    let health: Vec<String> =
        record.health.iter().map(|(service, health)| format!("{service} {health}")).collect();
    row("health", health.join(", "));
    let mut phases: Vec<(String, u64)> = Vec::new();
    for step in
        step_records(&operation.plan, &operation.state).into_iter().filter(|step| step.attempts > 0)
    {
        match phases.iter_mut().find(|(phase, _)| *phase == step.phase) {
            Some((_, ms)) => *ms += step.duration_ms,
            None => phases.push((step.phase, step.duration_ms)),
        }
    }
    let phases: Vec<String> =
        phases.iter().map(|(phase, ms)| format!("{phase} {}", words::duration(*ms))).collect();
    row("phases", phases.join(", "));
    fields
}
