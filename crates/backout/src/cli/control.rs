//! `promote`, `pause`, `resume`, `retry`, `abort`, `resolve`, `recover`, `down` and `adopt`.

use std::io::Write as _;

use backout_core::model::{OperationKind, RequestKind};
use backout_engine as engine;
use backout_engine::{AdoptWish, ControlAnswer, Recovered};
use serde_json::json;

use super::args::{self, Format, Global};
use super::deploy::watched;
use super::hand_over;
use super::report::confirm;
use super::report::json::print as print_json;
use super::report::outcome;
use super::report::progress::Progress;
use super::session::{self, Found, Opening, Session};
use super::signals;
use crate::error::CommandError;
use crate::exit_code;

async fn open(global: &Global, activity: &str, way_back: bool) -> Result<Session, CommandError> {
    let opening = Opening { activity, changes: true, way_back, strategy: None };
    session::open_known(global, opening).await
}

fn say(global: &Global, message: &str, document: serde_json::Value) {
    match global.format {
        Format::Json => print_json(&document),
        Format::Table => {
            let _ = writeln!(anstream::stdout(), "{message}");
        }
    }
}

/// Asks whoever holds the running operation.
pub async fn ask(global: &Global, kind: RequestKind) -> Result<u8, CommandError> {
    let activity = kind.as_str();
    let session = open(global, activity, kind == RequestKind::Abort).await?;
    signals::listen(&session);
    let progress = Progress::follow(&session.cx.events, global.verbose > 0);
    let answer = engine::ask(&session.cx, kind, None).await;
    progress.finish().await;
    match answer.map_err(|error| session::engine_error(&error))? {
        ControlAnswer::Accepted(message) => {
            say(
                global,
                &format!("{}: {message}", activity.replace("_full", " --full")),
                json!({ "request": activity, "accepted": true, "message": message }),
            );
            Ok(exit_code::OK)
        }
        ControlAnswer::Ran(result) => {
            let result = hand_over::settle(&session, *result).await?;
            Ok(match kind {
                RequestKind::Abort => outcome::print_aborted(global, &result),
                _ => outcome::print(global, &result),
            })
        }
    }
}

/// `resolve`.
pub async fn resolve(global: &Global, args: &args::Resolve) -> Result<u8, CommandError> {
    let session = open(global, "resolve", true).await?;
    confirm::ask(global, &format!("end the open operation of {} as it is?", session.cx.key), "")?;
    let operation = engine::resolve(&session.cx, &args.reason)
        .await
        .map_err(|error| session::engine_error(&error))?;
    say(
        global,
        &format!("{operation} is resolved"),
        json!({ "operation": operation, "resolved": true }),
    );
    Ok(exit_code::OK)
}

/// Whether what was interrupted is a rollback: going on with that is a way back.
async fn goes_on_back(global: &Global) -> Result<bool, CommandError> {
    let looking = Opening { activity: "recover", changes: false, way_back: false, strategy: None };
    let Ok(Found::Session(session)) = session::find(global, looking).await else {
        return Ok(false);
    };
    let open = session.cx.ledger.open_operation(&session.cx.key).await;
    let open = open.map_err(|error| session::ledger_error(&error))?;
    Ok(open.is_some_and(|plan| plan.kind == OperationKind::Rollback))
}

/// `recover`.
pub async fn recover(global: &Global) -> Result<u8, CommandError> {
    let mut session = open(global, "recover", goes_on_back(global).await?).await?;
    // It goes on with what others began, and makes way for a person who wants something else.
    session.cx.holder.person = false;
    let open_operation = session
        .cx
        .ledger
        .open_operation(&session.cx.key)
        .await
        .map_err(|error| session::ledger_error(&error))?;
    if let Some(plan) = &open_operation {
        let what =
            plan.version.as_ref().map(|version| format!(" of {version}")).unwrap_or_default();
        confirm::ask(
            global,
            &format!("finish the interrupted {}{what} in {}?", plan.kind, plan.key),
            "",
        )?;
    }
    signals::listen(&session);
    let progress = Progress::follow(&session.cx.events, global.verbose > 0);
    let result = engine::recover(&session.cx).await;
    progress.finish().await;
    match result.map_err(|error| session::engine_error(&error))? {
        Recovered::NothingOpen { started } if started.is_empty() => {
            say(
                global,
                "nothing was interrupted, and what should run runs",
                json!({ "open": false, "started": [] }),
            );
            Ok(exit_code::OK)
        }
        Recovered::NothingOpen { started } => {
            let message = format!("nothing was interrupted; started again: {}", started.join(", "));
            say(global, &message, json!({ "open": false, "started": started }));
            Ok(exit_code::OK)
        }
        Recovered::Ran(result) => {
            let result = hand_over::settle(&session, *result).await?;
            Ok(outcome::print(global, &result))
        }
    }
}

/// `down`.
pub async fn down(global: &Global) -> Result<u8, CommandError> {
    let session = open(global, "down", true).await?;
    let plan =
        engine::prepare_down(&session.cx).await.map_err(|error| session::engine_error(&error))?;
    if plan.steps.is_empty() && plan.from.is_none() {
        say(global, &format!("nothing runs in {}", session.cx.key), json!({ "stopped": [] }));
        return Ok(exit_code::OK);
    }
    if !global.yes {
        confirm::show(&plan, &[], &[]);
    }
    confirm::ask(global, &format!("stop everything in {}?", session.cx.key), "")?;
    let result = watched(global, &session, engine::down(&session.cx, None)).await?;
    Ok(outcome::print(global, &result))
}

/// `adopt`.
pub async fn adopt(global: &Global, args: &args::Adopt) -> Result<u8, CommandError> {
    let session = session::open(
        global,
        Opening { activity: "adopt", changes: true, way_back: false, strategy: None },
    )
    .await?;
    let wish = AdoptWish { version: args.version.clone(), reason: None };
    confirm::ask(
        global,
        &format!("record what is here as #0 of {}? (it starts and stops nothing)", session.cx.key),
        "",
    )?;
    let (result, release) =
        engine::adopt(&session.cx, &wish).await.map_err(|error| session::engine_error(&error))?;
    let code = outcome::code(&result);
    if code == exit_code::OK {
        let version = &release.content.version;
        say(
            global,
            &format!(
                "{version} is recorded as #0 of {}: the first deploy has a way back",
                session.cx.key
            ),
            super::report::json::outcome(&result, code),
        );
    }
    Ok(code)
}
