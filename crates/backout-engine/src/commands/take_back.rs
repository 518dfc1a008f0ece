//! The plan of the way back of a deploy that fails, is aborted, or was left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backout_core::model::{DeploymentStatus, RollbackType, Surface, Trigger};
use backout_core::plan::{
    Action, Live, Plan, PlanContext, RollbackWish, Seen, Situation, TrafficStep, lint, plan_down,
    plan_rollback,
};
use backout_core::ports::{LedgerError, Running};
use backout_core::saga::{Failure, begun_batches, untouched_hosts};

use crate::context::Context;
use crate::journal::{Journal, new_ids};
use crate::partial;
use crate::readiness;
use crate::situation;

/// A context for planning with fresh ids.
pub(crate) fn plan_context<'a>(
    cx: &'a Context,
    number: u64,
    reason: Option<String>,
    forced: bool,
    overrides: Vec<String>,
) -> PlanContext<'a> {
    let (operation, deployment_id, rollback_id) = new_ids(cx);
    PlanContext {
        operation,
        deployment_id,
        rollback_id,
        key: cx.key.clone(),
        number,
        policy: &cx.policy,
        capabilities: cx.target.capabilities(),
        surface: cx.surface,
        requested_by: cx.requested_by.clone(),
        reason,
        forced,
        overrides,
        now: cx.now(),
    }
}

/// The deployment that an operation makes, as planners name it.
pub(crate) fn made_by(plan: &Plan) -> Option<Live> {
    Some(Live {
        number: plan.deployment?,
        release: plan.release.clone()?,
        version: plan.version.clone()?,
        slot: plan.slot,
    })
}

/// What a deploy goes back to: what was live as it began, unless that is known bad by now; then last known good.
pub(crate) async fn way_back_of(
    cx: &Context,
    plan: &Plan,
) -> Result<Option<(Live, bool)>, LedgerError> {
    let Some(from) = &plan.from else { return Ok(None) };
    let row = cx.ledger.deployment(&cx.key, from.number).await?;
    let stable = row.as_ref().is_some_and(|row| row.status == DeploymentStatus::Stable);
    if !row.is_some_and(|row| row.rejected) {
        return Ok(Some((from.clone(), stable)));
    }
    let good =
        readiness::last_known_good(cx, &plan.release.iter().cloned().collect::<Vec<_>>()).await?;
    Ok(good.map(|row| {
        let stable = row.status == DeploymentStatus::Stable;
        (
            Live { number: row.number, release: row.release, version: row.version, slot: row.slot },
            stable,
        )
    }))
}

/// Plans the way back. The inner error is the reason why there is none.
pub(crate) async fn plan_take_back(
    cx: &Context,
    journal: &Journal,
    failure: &Failure,
) -> Result<Result<Plan, String>, LedgerError> {
    let environment = &journal.rows.environment;
    let situation: Situation = situation::observe_situation(cx, environment).await?;
    let number = environment.next_number;
    let mut pcx = plan_context(cx, number, Some(failure.evidence.join("; ")), false, Vec::new());
    if failure.by_router {
        pcx.surface = Surface::Proxy;
    }
    let Some(left) = made_by(&journal.plan) else {
        return Ok(Err("the failed operation made no deployment".to_owned()));
    };
    if journal.plan.from.is_none() {
        let words = (left, failure.trigger, failure.evidence.clone(), failure.release_is_bad);
        return Ok(Ok(plan_down(&pcx, &situation, Some(words))));
    }
    let Some((target, was_stable)) = way_back_of(cx, &journal.plan).await? else {
        return Ok(Err(
            "the release before it is known bad too, and there is no other good one".to_owned()
        ));
    };
    let release = situation::release(cx, &target.release).await?;
    let wish = RollbackWish {
        release: Arc::clone(&release),
        was_stable,
        left: Some(left),
        reject_left: failure.release_is_bad,
        untouched: untouched_hosts(&journal.plan, &journal.state, &target),
        begun: begun_batches(&journal.plan, &journal.state, &target),
        rollback_type: if failure.trigger == Trigger::Manual {
            RollbackType::Previous
        } else {
            RollbackType::Automatic
        },
        trigger: failure.trigger,
        evidence: failure.evidence.clone(),
        services: Vec::new(),
        seen: partial::seen(cx, &pcx, environment, &situation, &release, Some(&journal.plan))
            .await?,
    };
    let planned = plan_rollback(&pcx, &situation, &wish).map_err(|refusal| refusal.message);
    Ok(planned.and_then(|mut plan| {
        let wrong = lint(&plan);
        if crate::faults::mutant("skip_half_done") {
            skip_half_done(journal, &mut plan);
        }
        if wrong.is_empty() { Ok(plan) } else { Err(wrong.join("; ")) }
    }))
}

/// The mistake of an undo that undoes only what is known to be done.
fn skip_half_done(journal: &Journal, plan: &mut Plan) {
    let current = journal.state.current().map(|step| &journal.plan.steps[step].action);
    if let Some(Action::Start { slot: begun, .. }) = current {
        plan.steps
            .retain(|step| !matches!(&step.action, Action::Stop { slot, .. } if slot == begun));
    }
}

/// A rollback that meant to move traffic to a warm side which is not healthy: the plan that starts that release
/// again. `None` for everything else, and for a second time.
pub(crate) async fn replan_cold(
    cx: &Context,
    journal: &Journal,
    step: usize,
) -> Result<Option<Plan>, LedgerError> {
    let plan = &journal.plan;
    let to_warm_side = matches!(
        &plan.steps[step].action,
        Action::SetTraffic(TrafficStep { gate: true, percent: 0, .. })
    );
    let (true, Some(release), Some(trigger)) = (to_warm_side, &plan.release, plan.trigger) else {
        return Ok(None);
    };
    let environment = &journal.rows.environment;
    let mut situation = situation::observe_situation(cx, environment).await?;
    if let Some(side) = situation.slots.get_mut(&plan.slot) {
        side.running = Running::No;
    }
    let mut pcx = plan_context(
        cx,
        environment.next_number,
        plan.reason.clone(),
        plan.forced,
        plan.overrides.clone(),
    );
    pcx.surface = plan.surface;
    let wish = RollbackWish {
        release: situation::release(cx, release).await?,
        was_stable: plan.target_was_stable,
        left: plan.left.clone(),
        reject_left: plan.reject_left,
        untouched: BTreeSet::new(),
        begun: BTreeMap::new(),
        rollback_type: plan.rollback_type.unwrap_or(RollbackType::Previous),
        trigger,
        evidence: plan.evidence.clone(),
        services: plan.services.clone(),
        seen: Seen::default(),
    };
    Ok(plan_rollback(&pcx, &situation, &wish).ok().filter(|plan| lint(plan).is_empty()))
}
