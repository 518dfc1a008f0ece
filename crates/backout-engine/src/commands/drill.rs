//! `drill`: the way back is rehearsed beside what runs.

use std::sync::Arc;

use backout_core::model::{Deployment, DrillRecord, ReadinessCheck, Release, Severity};
use backout_core::plan::{Live, Plan, lint, not_beside, plan_drill};
use backout_core::saga::State;

use super::claim::{claim, give_back, ours_alone};
use super::rollback::{RollbackTarget, RollbackWishes, begin, find_target};
use super::take_back::plan_context;
use super::{EngineError, Refused};
use crate::context::Context;
use crate::executor::Outcome;
use crate::journal;
use crate::readiness::{STARTABLE, history, way_back_checks};
use crate::situation;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct DrillWish {
    /// The way back to rehearse.
    pub target: RollbackTarget,
    /// Why.
    pub reason: Option<String>,
}

/// A drill as it would run.
#[derive(Debug, Clone)]
pub struct PreparedDrill {
    /// The deployment that would be gone back to.
    pub target: Deployment,
    /// The plan.
    pub plan: Plan,
    /// What going back needs.
    pub checks: Vec<ReadinessCheck>,
    /// Why the release is not started; `None`: it is.
    pub not_started: Option<String>,
}

/// Plans a drill without changing anything.
///
/// # Errors
/// Refused where there is no way back to rehearse, or something is under way.
pub async fn prepare_drill(cx: &Context, wish: &DrillWish) -> Result<PreparedDrill, EngineError> {
    ours_alone(cx).await?;
    if let Some(open) = cx.ledger.open_operation(&cx.key).await? {
        return Err(match cx.ledger.lease(&cx.key).await? {
            Some(view) if view.alive => EngineError::Busy(Box::new(view)),
            _ => interrupted(&open).into(),
        });
    }
    prepare(cx, wish).await
}

fn interrupted(open: &Plan) -> Refused {
    Refused::new(
        format!("a {} is open and nobody works on it", open.kind),
        "`backout recover` finishes it; then run the drill",
    )
}

async fn prepare(cx: &Context, wish: &DrillWish) -> Result<PreparedDrill, EngineError> {
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let history = history(cx).await?;
    let wishes = RollbackWishes {
        target: wish.target.clone(),
        reason: wish.reason.clone(),
        forced: false,
        skip_validation: false,
        overrides: Vec::new(),
        services: Vec::new(),
    };
    let (target, _) = find_target(cx, &wishes, (None, None), &history).await?;
    let situation = situation::observe_situation(cx, &environment).await?;
    if situation.live.as_ref().is_some_and(|live| live.release == target.release) {
        return Err(Refused::new(
            format!("#{} {} is what is live now", target.number, target.version),
            "a drill is about another release; `backout check` looks at this one",
        )
        .into());
    }
    let release = situation::release(cx, &target.release).await?;
    let checks = way_back_checks(cx, &environment, &release).await?;
    let pcx = plan_context(cx, environment.next_number, wish.reason.clone(), false, Vec::new());
    let live = Live {
        number: target.number,
        release: target.release.clone(),
        version: target.version.clone(),
        slot: target.slot,
    };
    let missing =
        checks.iter().find(|check| check.status == Severity::Error && check.name != STARTABLE);
    let not_started = match (missing, not_beside(&pcx)) {
        (Some(check), _) => Some(format!("{}: {}", check.name, check.message)),
        (None, Some(why)) => Some(why.to_owned()),
        (None, None) => adapter_says(cx, &release, &situation).await?,
    };
    let plan = plan_drill(&pcx, &situation, &live, &release, not_started.is_none())?;
    let wrong = lint(&plan);
    if !wrong.is_empty() {
        return Err(EngineError::Failed(format!(
            "the plan is unsound, nothing was changed: {}",
            wrong.join("; ")
        )));
    }
    Ok(PreparedDrill { target, plan, checks, not_started })
}

/// Why one of its services can't be started once more.
async fn adapter_says(
    cx: &Context,
    release: &Arc<Release>,
    situation: &backout_core::plan::Situation,
) -> Result<Option<String>, EngineError> {
    let slot = situation.users_on().map_or(backout_core::ids::Slot::A, |on| on.other());
    let mut serving = release.content.services.values().filter(|s| s.traffic).peekable();
    if serving.peek().is_none() {
        return Ok(Some("no service of it takes traffic: its jobs would run twice".to_owned()));
    }
    for service in serving {
        let unit = situation::unit(cx, &service.name, slot);
        if let Some(why) = cx.target.not_beside(&unit, release).await? {
            return Ok(Some(why));
        }
    }
    Ok(None)
}

/// Rehearses to the end. What it has shown stands in the outcome: see [`shown`].
///
/// # Errors
/// When it was refused or could not begin; nothing was changed then.
pub async fn drill(cx: &Context, wish: &DrillWish) -> Result<Outcome, EngineError> {
    prepare_drill(cx, wish).await?;
    let claimed = claim(cx).await?;
    let result = match &claimed.open {
        Some(open) => Err(interrupted(open).into()),
        None => Box::pin(run(cx, wish, &claimed)).await,
    };
    give_back(cx, claimed.keeper).await;
    result
}

async fn run(
    cx: &Context,
    wish: &DrillWish,
    claimed: &super::claim::Claimed,
) -> Result<Outcome, EngineError> {
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let prepared = prepare(cx, wish).await?;
    if let Some(why) = &prepared.not_started {
        cx.events.note(format!("it is not started: {why}"));
    }
    begin(cx, &claimed.keeper, None, &environment, (prepared.plan, None)).await
}

/// What a drill has shown; `None`: it was interrupted.
#[must_use]
pub fn shown(state: &State) -> Option<DrillRecord> {
    let receipts = state.steps.iter().filter_map(|step| step.receipt.as_ref());
    let found = receipts.filter_map(|receipt| receipt.data.get("drill")).next()?;
    serde_json::from_value(found.clone()).ok()
}
