//! `backout drill`.

use std::io::Write as _;

use backout_core::model::DrillRecord;
use backout_engine as engine;
use backout_engine::{DrillWish, Outcome, PreparedDrill, RollbackTarget};
use serde_json::{Value, json};

use super::args::{self, Format, Global};
use super::deploy::watched;
use super::report::json::print as print_json;
use super::report::table::Fields;
use super::report::text::{Text, bad, good, terminal_width, warn};
use super::report::{confirm, outcome, words};
use super::session::{self, Opening, Session};
use super::values::RollbackPoint;
use crate::error::CommandError;
use crate::exit_code;

/// Runs the verb.
pub async fn run(global: &Global, args: &args::Drill) -> Result<u8, CommandError> {
    let session = open(global, args).await?;
    let wish = DrillWish { target: target(args), reason: args.reason.clone() };
    let prepared = engine::prepare_drill(&session.cx, &wish)
        .await
        .map_err(|error| session::engine_error(&error))?;
    if args.dry_run {
        match global.format {
            Format::Json => print_json(&plan_json(&prepared)),
            Format::Table => show(&prepared),
        }
        return Ok(exit_code::OK);
    }
    if !global.yes {
        show(&prepared);
    }
    let question = format!(
        "rehearse going back to #{} {} in {}? (users notice nothing)",
        prepared.target.number, prepared.target.version, session.cx.key
    );
    confirm::ask(global, &question, confirm::DRY_RUN_FIRST)?;
    let result = watched(global, &session, engine::drill(&session.cx, &wish)).await?;
    Ok(print(global, &result, prepared.not_started.as_deref()))
}

async fn open(global: &Global, args: &args::Drill) -> Result<Session, CommandError> {
    let opening =
        Opening { activity: "drill", changes: !args.dry_run, way_back: false, strategy: None };
    session::open_known(global, opening).await
}

fn target(args: &args::Drill) -> RollbackTarget {
    match (&args.version, args.to_revision.map(RollbackPoint::Revision).or(args.to)) {
        (Some(version), _) => RollbackTarget::Version(version.clone()),
        (None, Some(RollbackPoint::Revision(number))) => RollbackTarget::Revision(number),
        (None, Some(RollbackPoint::Time(at))) => RollbackTarget::At(at),
        (None, None) => RollbackTarget::LastKnownGood,
    }
}

fn plan_json(prepared: &PreparedDrill) -> Value {
    let mut document = confirm::plan_json(&prepared.plan, &prepared.checks);
    if let Some(fields) = document.as_object_mut() {
        fields.insert("deployment".to_owned(), json!(prepared.target.number));
        fields.insert("started_beside".to_owned(), json!(prepared.not_started.is_none()));
        fields.insert("not_started".to_owned(), json!(prepared.not_started));
    }
    document
}

fn show(prepared: &PreparedDrill) {
    let why = prepared.not_started.iter().map(|why| format!("it is not started: {why}"));
    confirm::show(&prepared.plan, &prepared.checks, &why.collect::<Vec<_>>());
}

/// Prints what was shown, and returns the exit code.
fn print(global: &Global, outcome: &Outcome, not_started: Option<&str>) -> u8 {
    let operation = outcome.operation();
    let shown = engine::shown(&operation.state);
    let code = match (outcome, &shown) {
        (Outcome::Ended { .. }, Some(record)) if record.passed => exit_code::OK,
        (Outcome::Ended { .. }, Some(_)) => exit_code::FAILED,
        // A signal, or somebody who needed the environment.
        (Outcome::Ended { .. }, None) => exit_code::STOPPED_WATCHING,
        _ => outcome::code(outcome),
    };
    if !matches!(outcome, Outcome::Ended { .. }) {
        return outcome::print(global, outcome);
    }
    match (global.format, &shown) {
        (Format::Json, _) => print_json(&document(outcome, shown.as_ref(), not_started, code)),
        (Format::Table, Some(record)) => table(outcome, record, not_started),
        (Format::Table, None) => {
            let _ = writeln!(anstream::stdout(), "the drill was interrupted: nothing was shown");
        }
    }
    code
}

fn document(
    outcome: &Outcome,
    shown: Option<&DrillRecord>,
    not_started: Option<&str>,
    code: u8,
) -> Value {
    let operation = outcome.operation();
    let plan = &operation.plan;
    json!({
        "operation": plan.operation, "app": plan.key.app, "environment": plan.key.environment,
        "deployment": shown.map(|record| record.deployment), "version": plan.version,
        "passed": shown.map(|record| record.passed), "started_beside": shown.map(|r| r.beside),
        "restore_ms": shown.and_then(|record| record.restore_ms),
        "rehearsed": shown.map(|record| &record.rehearsed),
        "left_out": shown.map(|record| &record.left_out),
        "not_started": not_started,
        "error_message": shown.and_then(|record| record.error.as_ref()),
        "warnings": operation.state.warnings, "at": shown.map(|record| record.at),
        "exit_code": code,
    })
}

fn table(outcome: &Outcome, record: &DrillRecord, not_started: Option<&str>) {
    let mut out = anstream::stdout();
    let place = &outcome.operation().plan.key;
    let what = format!("drill of #{} {} in {place}: ", record.deployment, record.version);
    let text = match (&record.error, record.restore_ms) {
        (Some(why), _) => {
            Text::from(what).and(bad(), "the way back would fail").then(format!(": {why}"))
        }
        (None, Some(ms)) => Text::from(what)
            .and(good(), "it came up and passed its checks")
            .then(format!(" after {}; users noticed nothing", words::duration(ms))),
        (None, None) => Text::from(what).and(good(), "what it needs is there"),
    };
    let mut fields = Fields::default();
    for line in &record.rehearsed {
        fields.add("rehearsed", line.as_str());
    }
    for line in not_started.into_iter().chain(record.left_out.iter().map(String::as_str)) {
        fields.add("left out", Text::new(warn(), line));
    }
    let width = terminal_width();
    for line in text.wrapped(width) {
        let _ = writeln!(out, "{}", line.styled());
    }
    for line in fields.render(2, width) {
        let _ = writeln!(out, "{line}");
    }
}
