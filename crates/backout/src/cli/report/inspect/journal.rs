//! A journal for people: a line for each entry.

use backout_core::plan::Plan;
use backout_core::ports::ErrorClass;
use backout_core::saga::{Ending, Entry, EntryKind};

use crate::cli::report::table::{Align, Table};
use crate::cli::report::text::{DIM, PLAIN, Text, bad, good, warn};

/// The journal as a table.
#[must_use]
pub fn table(plan: Option<&Plan>, entries: &[Entry]) -> Table {
    let mut table =
        Table::new(&[("TIME (UTC)", Align::Left), ("EPOCH", Align::Right), ("ENTRY", Align::Left)]);
    for entry in entries {
        table.row([
            Text::new(DIM, entry.at.strftime("%m-%d %H:%M:%S%.3f").to_string()),
            Text::new(DIM, entry.epoch.to_string()),
            words(plan, &entry.kind),
        ]);
    }
    table
}

fn name(plan: Option<&Plan>, step: usize) -> String {
    match plan.and_then(|plan| plan.steps.get(step)) {
        Some(step) if step.subject.contains('@') => format!("{} {}", step.name, step.subject),
        Some(step) => step.name.clone(),
        None => format!("step {step}"),
    }
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn words(plan: Option<&Plan>, kind: &EntryKind) -> Text {
    let step = |step: &usize| name(plan, *step);
    match kind {
        EntryKind::Claimed { holder } => Text::from(format!("held by {holder}")),
        EntryKind::StepStarted { step: at, attempt } => {
            let again = if *attempt > 1 { format!(", try {attempt}") } else { String::new() };
            Text::from(format!("{} begins{again}", step(at)))
        }
        EntryKind::StepDone { step: at, adopted, receipt } => {
            let seen = if *adopted { " (seen done on recovery)" } else { "" };
            Text::from(format!("{} ", step(at)))
                .and(good(), "done")
                .then(format!("{seen}{}", detail(&receipt.message)))
        }
        EntryKind::StepFailed { step: at, class, message } => {
            let class = match class {
                ErrorClass::Transient => "",
                ErrorClass::Permanent => " for good",
                ErrorClass::Unknown => " with an unknown outcome",
            };
            Text::from(format!("{} ", step(at)))
                .and(bad(), format!("failed{class}"))
                .then(detail(message))
        }
        EntryKind::StepNotApplied { step: at } => {
            Text::from(format!("{} seen not to have happened", step(at)))
        }
        EntryKind::StepSkipped { step: at } => Text::from(format!("{} skipped", step(at))),
        EntryKind::Failing { failure } => Text::new(bad(), "failing").then(format!(
            " ({}){}",
            failure.trigger,
            detail(&failure.evidence.join("; "))
        )),
        EntryKind::Requested { kind, by, .. } => {
            Text::from(format!("{by} asked to {}", kind.as_str().replace('_', " ")))
        }
        EntryKind::TrafficSafe => Text::new(good(), "every user is on a good release"),
        EntryKind::Warning { message } => Text::new(warn(), "warning").then(detail(message)),
        EntryKind::Stuck { step: at, reason } => {
            Text::new(bad(), format!("stuck at {}", step(at))).then(detail(reason))
        }
        EntryKind::Ended { ending } => ending_text(ending),
    }
}

/// How an operation ended.
#[must_use]
pub fn ending_text(ending: &Ending) -> Text {
    match ending {
        Ending::Done { healthy: true } => Text::new(good(), "done, healthy"),
        Ending::Done { healthy: false } => Text::new(bad(), "done, but what is live is failing"),
        Ending::NothingChanged { message } => {
            Text::new(bad(), "failed, nothing was changed").then(detail(message))
        }
        Ending::FailedLive { failure } => {
            Text::new(bad(), "failing, and left live").then(detail(&failure.evidence.join("; ")))
        }
        Ending::TakenBack { by, failure } => {
            let why = failure.as_ref().map(|failure| failure.evidence.join("; "));
            Text::new(warn(), format!("taken back by {by}"))
                .and(PLAIN, detail(&why.unwrap_or_default()))
        }
        Ending::Superseded { by } => Text::new(DIM, format!("superseded by {by}")),
        Ending::Resolved { reason, by } => {
            Text::new(warn(), format!("resolved by {by}")).then(detail(reason))
        }
    }
}
