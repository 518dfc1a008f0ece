//! `backout rollback`.

use backout_engine as engine;
use backout_engine::{EngineError, PreparedRollback, RollbackTarget, RollbackWishes};

use super::args::{self, Format, Global};
use super::deploy::{of, watched};
use super::report::confirm;
use super::report::json;
use super::report::outcome;
use super::session::{self, Opening, Session};
use super::values::RollbackPoint;
use crate::error::CommandError;
use crate::exit_code;

/// Runs the verb.
pub async fn run(global: &Global, args: &args::Rollback) -> Result<u8, CommandError> {
    let opening =
        Opening { activity: "rollback", changes: !args.dry_run, way_back: true, strategy: None };
    let mut session = session::open_known(global, opening).await?;
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
    // Nobody looks at the plan where the answer is given: it is made once, where it is run.
    if args.dry_run || !global.yes {
        let prepared = engine::prepare_rollback(&session.cx, &wishes)
            .await
            .map_err(|e| session::engine_error(&e))?;
        if args.dry_run {
            return Ok(dry_run(global, &prepared));
        }
        agree(global, args, &session, (&prepared, &mut wishes))?;
    }
    let result = watched(global, &session, run_with_reserve(&session, &wishes)).await?;
    Ok(outcome::print(global, &result))
}

/// Shows the plan and asks.
fn agree(
    global: &Global,
    args: &args::Rollback,
    session: &Session,
    (prepared, wishes): (&PreparedRollback, &mut RollbackWishes),
) -> Result<(), CommandError> {
    confirm::show(&prepared.plan, &prepared.checks, &prepared.warnings);
    let question =
        format!("roll {}{} back to {}?", of(&args.services), session.cx.key, prepared.destination);
    let asked = confirm::ask(global, &question, confirm::DRY_RUN_FIRST)?;
    // A person who has seen the plan and says yes has said so about a healthy release, too.
    wishes.forced |= asked && prepared.needs_only_force();
    Ok(())
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
            if crate::registry::free_reserve(&session.state.path)? {
                session.cx.events.warn(format!(
                    "the disk of {folder} is full: the reserved space is used for this rollback"
                ));
            }
            engine::rollback(&session.cx, wishes).await
        }
        other => other,
    }
}
