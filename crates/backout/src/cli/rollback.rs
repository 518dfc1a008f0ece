//! `backout rollback`.

use backout_engine as engine;
use backout_engine::{EngineError, PreparedRollback, RollbackTarget, RollbackWishes};

use super::args::{self, Format, Global};
use super::deploy::{of, watched};
use super::report::confirm;
use super::report::json;
use super::report::outcome;
use super::session::{self, Found, Opening, Session};
use super::values::RollbackPoint;
use crate::error::CommandError;
use crate::exit_code;

/// Runs the verb.
pub async fn run(global: &Global, args: &args::Rollback) -> Result<u8, CommandError> {
    let mut session = open(global, args).await?;
    if let Some(app) = args.app.as_ref().filter(|app| **app != session.loaded.app) {
        return Err(CommandError::usage(format!(
            "{} describes {}, not {app}",
            global.config_file().display(),
            session.loaded.app
        ))
        .hint("name the right file with -f"));
    }
    if session.cx.policy.production && args.reason.is_none() && !args.dry_run {
        return Err(CommandError::refused(format!(
            "{} is a production environment: say why",
            session.cx.key
        ))
        .hint("add --reason TEXT"));
    }
    if let Some(timeout_ms) = args.timeout {
        session.cx.policy.rollback.timeout_ms = timeout_ms;
    }
    let mut wishes = wishes(args);
    let prepared = engine::prepare_rollback(&session.cx, &wishes)
        .await
        .map_err(|e| session::engine_error(&e))?;
    if args.dry_run {
        return Ok(dry_run(global, &prepared));
    }
    if !global.yes {
        confirm::show(&prepared.plan, &prepared.checks, &prepared.warnings);
    }
    let question =
        format!("roll {}{} back to {}?", of(&args.services), session.cx.key, prepared.destination);
    let asked = confirm::ask(global, &question, confirm::DRY_RUN_FIRST)?;
    // A person who has seen the plan and says yes has said so about a healthy release, too.
    wishes.forced |= asked && prepared.needs_only_force();
    let result = watched(global, &session, run_with_reserve(&session, &wishes)).await?;
    Ok(outcome::print(global, &result))
}

async fn open(global: &Global, args: &args::Rollback) -> Result<Session, CommandError> {
    let opening =
        Opening { activity: "rollback", changes: !args.dry_run, way_back: true, strategy: None };
    // An unknown environment is refused before a ledger is made for it.
    let reading = Opening { changes: false, ..opening };
    match session::find(global, reading).await {
        Ok(Found::NoLedger { loaded, state }) => {
            return Err(session::not_known(global, &loaded, &state).await);
        }
        Ok(Found::Session(session)) => {
            let known = session
                .cx
                .ledger
                .environment(&session.cx.key)
                .await
                .map_err(|e| session::ledger_error(&e))?;
            if known.is_none() {
                return Err(session::not_known(global, &session.loaded, &session.state).await);
            }
        }
        // An older format is brought up to date by opening for writing.
        Err(error) if args.dry_run => return Err(error),
        Err(_) => {}
    }
    session::open(global, opening).await
}

fn wishes(args: &args::Rollback) -> RollbackWishes {
    let target = match (&args.version, args.point()) {
        (Some(version), _) => RollbackTarget::Version(version.clone()),
        (None, Some(RollbackPoint::Revision(number))) => RollbackTarget::Revision(number),
        (None, Some(RollbackPoint::Time(at))) => RollbackTarget::At(at),
        (None, None) => RollbackTarget::LastKnownGood,
    };
    RollbackWishes {
        target,
        reason: args.reason.clone(),
        forced: args.force,
        skip_validation: args.skip_validation,
        overrides: args.overrides.clone(),
        services: args.services.clone(),
    }
}

fn dry_run(global: &Global, prepared: &PreparedRollback) -> u8 {
    match global.format {
        Format::Json => json::print(&confirm::plan_json(&prepared.plan, &prepared.checks)),
        Format::Table => confirm::show(&prepared.plan, &prepared.checks, &prepared.warnings),
    }
    exit_code::OK
}

/// On a full disk the reserved file makes room for one rollback's journal.
async fn run_with_reserve(
    session: &Session,
    wishes: &RollbackWishes,
) -> Result<engine::Outcome, EngineError> {
    use backout_core::ports::LedgerError;
    match engine::rollback(&session.cx, wishes).await {
        Err(EngineError::Ledger(LedgerError::DiskFull(folder))) => {
            session.cx.events.warn(format!(
                "the disk of {folder} is full: the reserved space is used for this rollback"
            ));
            crate::registry::free_reserve(&session.state.path)?;
            engine::rollback(&session.cx, wishes).await
        }
        other => other,
    }
}
