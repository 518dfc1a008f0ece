//! `backout deploy`.

use std::io::Write as _;

use backout_core::ids::ServiceName;
use backout_engine as engine;
use backout_engine::{ConfigChoice, DeployWish, Outcome};

use super::args::{self, Format, Global};
use super::hand_over;
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
        overrides: args.overrides.clone(),
        services: args.services.clone(),
    };
    if args.detach && !args.dry_run {
        engine::require_controller(&session.cx)
            .await
            .map_err(|error| session::engine_error(&error))?;
    }
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
    let question = format!("deploy {}{} to {}?", of(&args.services), args.version, session.cx.key);
    confirm::ask(global, &question, confirm::DRY_RUN_FIRST)?;
    if args.detach {
        return detached(global, &session, &wish).await;
    }
    let result = watched(global, &session, engine::deploy(&session.cx, &wish)).await?;
    Ok(outcome::print(global, &result))
}

/// `web, jobs of `, where some services are named.
pub fn of(services: &[ServiceName]) -> String {
    let names: Vec<&str> = services.iter().map(ServiceName::as_str).collect();
    if names.is_empty() { String::new() } else { format!("{} of ", names.join(", ")) }
}

/// Runs an operation with progress and signals.
pub async fn watched(
    global: &Global,
    session: &Session,
    operation: impl Future<Output = Result<Outcome, engine::EngineError>>,
) -> Result<Outcome, CommandError> {
    signals::listen(session);
    let progress = Progress::follow(&session.cx.events, global.verbose > 0);
    let result = match operation.await {
        Ok(outcome) => hand_over::settle(session, outcome).await,
        Err(error) => Err(session::engine_error(&error)),
    };
    progress.finish().await;
    result
}

/// Leaves it to the controller.
async fn detached(
    global: &Global,
    session: &Session,
    wish: &DeployWish,
) -> Result<u8, CommandError> {
    let ordered = engine::order_deploy(&session.cx, wish)
        .await
        .map_err(|error| session::engine_error(&error))?;
    let plan = session.cx.ledger.operation(&ordered.operation).await.ok().flatten();
    let number = plan.and_then(|plan| plan.deployment);
    let version = &ordered.release.content.version;
    match global.format {
        Format::Json => json::print(&serde_json::json!({
            "detached": true, "operation": ordered.operation, "deployment": number, "version": version,
            "release": ordered.release.id, "controller": ordered.controller, "exit_code": exit_code::OK,
        })),
        Format::Table => {
            let number = number.map(|number| format!(" #{number}")).unwrap_or_default();
            let _ = writeln!(
                anstream::stdout(),
                "deploy{number} {version} in {}: begun by {}; `backout status -w` follows it",
                session.cx.key,
                ordered.controller
            );
        }
    }
    Ok(exit_code::OK)
}

/// Warnings of the configuration, once.
pub fn warn_of(session: &Session) {
    for warning in &session.loaded.settings.warnings {
        let _ = writeln!(anstream::stderr(), "warning: {warning}");
    }
}
