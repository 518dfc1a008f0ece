//! `backout eject`: Backout goes, and what runs stays.

mod purge;

use std::io::Write as _;

use backout_core::ports::Farewell;
use backout_core::saga::State;
use backout_engine as engine;
use backout_engine::{Outcome, PreparedEject};
use serde_json::{Value, json};

use super::args::{self, Format, Global};
use super::deploy::watched;
use super::report::json::print as print_json;
use super::report::{confirm, outcome};
use super::session::{self, Opening, Session};
use crate::error::CommandError;
use crate::exit_code;

/// Runs the verb.
pub async fn run(global: &Global, args: &args::Eject) -> Result<u8, CommandError> {
    let session = open(global, args).await?;
    let failed = |error| session::engine_error(&error);
    let prepared = engine::prepare_eject(&session.cx).await.map_err(failed)?;
    if args.purge {
        purge::refuse(&session, &prepared).await?;
    }
    if args.dry_run {
        match global.format {
            Format::Json => print_json(&document(&session, &prepared.farewell, args, None)),
            Format::Table => show(&session, &prepared, args),
        }
        return Ok(exit_code::OK);
    }
    if !global.yes {
        show(&session, &prepared, args);
    }
    let question = format!("let {} go? (what runs goes on without Backout)", session.cx.key);
    confirm::ask(global, &question, confirm::DRY_RUN_FIRST)?;
    let result = watched(global, &session, engine::eject(&session.cx)).await?;
    let code = outcome::code(&result);
    if code != exit_code::OK || !matches!(result, Outcome::Ended { .. }) {
        return Ok(outcome::print(global, &result));
    }
    let farewell = said(&result.operation().state).unwrap_or(prepared.farewell);
    let document = document(&session, &farewell, args, Some(code));
    let lines = lines(&session, &farewell, args);
    if args.purge {
        purge::purge(session).await?;
    }
    match global.format {
        Format::Json => print_json(&document),
        Format::Table => {
            let mut out = anstream::stdout();
            let _ = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
        }
    }
    Ok(code)
}

async fn open(global: &Global, args: &args::Eject) -> Result<Session, CommandError> {
    let opening =
        Opening { activity: "eject", changes: !args.dry_run, way_back: false, strategy: None };
    session::open_known(global, opening).await
}

/// What was really removed, from the journal.
fn said(state: &State) -> Option<Farewell> {
    let receipt = state.steps.iter().filter_map(|step| step.receipt.as_ref()).next()?;
    let list = |name: &str| -> Option<Vec<String>> {
        serde_json::from_value(receipt.data.get(name)?.clone()).ok()
    };
    Some(Farewell { removed: list("removed")?, stays: list("stays")?, keeps_copies: false })
}

fn document(session: &Session, farewell: &Farewell, args: &args::Eject, code: Option<u8>) -> Value {
    json!({
        "app": session.cx.key.app, "environment": session.cx.key.environment,
        "removed": farewell.removed, "stays": farewell.stays,
        "state_dir": session.state.path, "purged": args.purge, "exit_code": code,
    })
}

fn lines(session: &Session, farewell: &Farewell, args: &args::Eject) -> Vec<String> {
    let mut lines = vec![format!("{} is let go", session.cx.key)];
    lines.extend(farewell.removed.iter().map(|line| format!("  removed: {line}")));
    lines.extend(farewell.stays.iter().map(|line| format!("  stays:   {line}")));
    let state = session.state.path.display();
    lines.push(if args.purge {
        format!("  removed: the history and the copies in {state}")
    } else {
        format!("  stays:   the history in {state} (`backout eject --purge` removes it)")
    });
    lines
}

fn show(session: &Session, prepared: &PreparedEject, args: &args::Eject) {
    let mut out = anstream::stderr();
    let _ = match &prepared.live {
        Some(live) => writeln!(out, "#{} {} goes on running", live.number, live.version),
        None => writeln!(out, "nothing is live"),
    };
    for line in lines(session, &prepared.farewell, args).into_iter().skip(1) {
        let _ = writeln!(out, "{line}");
    }
}
