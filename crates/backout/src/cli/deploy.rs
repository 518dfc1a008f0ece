//! `backout deploy`.

use backout_engine as engine;
use backout_engine::{ConfigChoice, DeployWish, Outcome};

use super::args::{self, Format, Global};
use super::report::confirm;
use super::report::json;
use super::report::outcome;
use super::report::progress::Progress;
use super::session::{self, Opening, Session};
use super::signals;
use crate::error::CommandError;
use crate::exit_code;

/// Runs the verb.
pub async fn run(global: &Global, args: &args::Deploy) -> Result<u8, CommandError> {
    let strategy = args.strategy.map(args::StrategyName::as_str);
    let opening = Opening { activity: "deploy", changes: true, way_back: false, strategy };
    // Kept until the end: a look at the plan of a first deploy happens on a ledger that goes away again.
    let (session, _look) = if args.dry_run {
        session::open_to_look(global, opening).await?
    } else {
        (session::open(global, opening).await?, None)
    };
    warn_of(&session);
    let wish = DeployWish {
        version: args.version.clone(),
        reason: None,
        config: args.config.map(|choice| match choice {
            args::ConfigChoice::Keep => ConfigChoice::Keep,
            args::ConfigChoice::Deployment(number) => ConfigChoice::Of(number),
        }),
    };
    let prepared = engine::prepare_deploy(&session.cx, &wish)
        .await
        .map_err(|error| session::engine_error(&error))?;
    if args.dry_run {
        match global.format {
            Format::Json => json::print(&confirm::plan_json(&prepared.plan, &prepared.checks)),
            Format::Table => confirm::show(&prepared.plan, &prepared.checks, &prepared.warnings),
        }
        return Ok(exit_code::OK);
    }
    if !global.yes {
        confirm::show(&prepared.plan, &prepared.checks, &prepared.warnings);
    }
    let question = format!("deploy {} to {}?", args.version, session.cx.key);
    confirm::ask(global, &question, confirm::DRY_RUN_FIRST)?;
    let result = watched(global, &session, engine::deploy(&session.cx, &wish)).await?;
    Ok(outcome::print(global, &result))
}

/// Runs an operation with progress and signals.
pub async fn watched(
    global: &Global,
    session: &Session,
    operation: impl Future<Output = Result<Outcome, engine::EngineError>>,
) -> Result<Outcome, CommandError> {
    signals::listen(session.interrupt.clone(), true);
    let progress = Progress::follow(&session.cx.events, global.verbose > 0);
    let result = operation.await;
    progress.finish().await;
    result.map_err(|error| session::engine_error(&error))
}

/// Warnings of the configuration, once.
pub fn warn_of(session: &Session) {
    use std::io::Write as _;
    for warning in &session.loaded.settings.warnings {
        let _ = writeln!(anstream::stderr(), "warning: {warning}");
    }
}
