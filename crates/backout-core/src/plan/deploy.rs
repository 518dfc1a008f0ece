//! The plan of a deploy.

use std::collections::BTreeSet;

use super::builder::Builder;
use super::partial::{self, Seen};
use super::rolling::{self, RollOut};
use super::scale;
use super::situation::{PlanContext, Refusal, Side, Situation};
use super::step::{Nature, Plan, TrafficStep, WatchMode};
use crate::ids::{ServiceName, Slot};
use crate::model::{
    CanaryPolicy, OperationKind, Policy, Release, RouterPolicy, Service, Strategy, TripRule,
};

/// Makes the plan that takes `release` live.
///
/// `restore_config` puts the release's config files on disk first (`--config N`). Services that `seen` tells to run
/// as the release wants them stay as they are, where each is replaced in its own place.
///
/// # Errors
/// [`Refusal`] when the way back could not fit into `rollback.timeout`.
pub fn plan_deploy(
    cx: &PlanContext<'_>,
    situation: &Situation,
    release: &Release,
    restore_config: bool,
    seen: &Seen,
) -> Result<Plan, Refusal> {
    let policy = cx.policy;
    refuse_long_way_back(policy, release)?;
    let routed = policy.router != RouterPolicy::None;
    let beside = runs_beside(cx, routed);
    let shared = partial::staying(cx, situation, release, seen);
    let slot = shared.as_ref().map_or_else(|| free_slot(cx, situation, routed), |(slot, _)| *slot);
    let staying = shared.map(|(_, staying)| staying).unwrap_or_default();
    let mut b = Builder::new(cx, Nature::Compensatable);
    b.pin_artifacts(release);
    b.ensure_router();
    if restore_config {
        b.restore_config(release);
    }
    // What the ledger knows of the users' slot may run, even where not all of it was seen running.
    let users_on = situation.users_on().filter(|on| beside && *on != slot);
    let old = users_on.and_then(|on| Some((on, situation.slots.get(&on)?)));
    clear_the_way(&mut b, cx, situation, release, slot, (old.is_some(), &staying));
    // A job of a service that stays what it is has run with its own release.
    let has_run = |service: &&Service| {
        service.job.is_some() && release.content.origins.contains_key(&service.name)
    };
    let services = Builder::ordered(release).filter(|service| !has_run(service));
    let services: Vec<&Service> = services.filter(|s| !staying.contains(&s.name)).collect();
    let out = RollOut {
        release,
        deployment: cx.number,
        slot,
        restore: false,
        revert: rolling::revert(&policy.hosts, situation.live.as_ref().map(|live| &live.release)),
        passes: passes(policy),
        some: scale::forward(cx, situation, release),
    };
    let batches = rolling::batches(policy);
    match old {
        Some(old) => start_beside(&mut b, &out, old, &services),
        None => b.roll_out(&out, &batches, &services, policy),
    }
    let warm = old.filter(|(_, side)| side.can_serve()).map(|(on, _)| on);
    b.watch("await_ready", WatchMode::Ready { passes: passes(policy), hold_ms: 0 }, slot, warm);
    let mut live_at = b.steps.len() - 1;
    b.confirm_last(&out, &batches, &services);
    if routed {
        live_at = traffic_steps(&mut b, policy, slot, warm, old.map(|(on, _)| on));
    }
    b.nature(Nature::Pivot);
    let bake = WatchMode::Bake { bake_ms: policy.bake_ms, passes: passes(policy) };
    b.watch("bake", bake, slot, warm);
    b.nature(Nature::Retriable);
    if let Some(old) = old {
        let keep_ms = match policy.strategy {
            Strategy::BlueGreen { keep_old_ms } if warm.is_some() => keep_old_ms,
            _ => 0,
        };
        if keep_ms > policy.bake_ms {
            let mode = WatchMode::Keep { keep_ms: keep_ms - policy.bake_ms };
            b.watch("keep_old", mode, slot, None);
        }
        end_old(&mut b, old, release, routed);
    }
    b.prune();
    let mut steps = b.steps;
    let sides = situation.slots.values().map(|side| side.release.as_ref());
    partial::name_own_versions(&mut steps, sides.chain([release]));
    partial::give_jobs_time(&mut steps, release);
    let mut plan = cx.plan(OperationKind::Deploy, situation.live.clone(), slot, steps);
    if !release.content.origins.is_empty() {
        plan.services = release.content.own_services();
    }
    plan.release = Some(release.id.clone());
    plan.version = Some(release.content.version.clone());
    plan.live_at = Some(live_at);
    Ok(plan)
}

/// Whether the new side starts while the old one goes on.
pub(super) fn runs_beside(cx: &PlanContext<'_>, routed: bool) -> bool {
    cx.capabilities.side_by_side
        && match cx.policy.strategy {
            Strategy::Recreate | Strategy::Rolling { .. } => false,
            Strategy::BlueGreen { .. } => true,
            Strategy::Canary(_) => routed,
        }
}

/// Starts the new side beside the old one; a worker of the old one ends before its new version begins.
fn start_beside(
    b: &mut Builder<'_>,
    out: &RollOut<'_>,
    (on, side): (Slot, &Side),
    services: &[&Service],
) {
    for service in services {
        if is_replaced_worker(&service.name, side, out.release) {
            b.stop(&service.name, side, on);
        }
        b.start(service, out.release, out.deployment, out.slot, out.restore);
    }
}

/// Ends the side that nobody needs any more.
fn end_old(b: &mut Builder<'_>, (on, side): (Slot, &Side), release: &Release, routed: bool) {
    if routed {
        b.drain(on);
    }
    b.stop_side(side, on, |name| !is_replaced_worker(name, side, release));
}

/// Stops what can't stay while the new side starts.
fn clear_the_way(
    b: &mut Builder<'_>,
    cx: &PlanContext<'_>,
    situation: &Situation,
    release: &Release,
    slot: Slot,
    (keeps_other, staying): (bool, &BTreeSet<ServiceName>),
) {
    let in_place = cx.capabilities.replaces_in_place && slot == Slot::A;
    if let Some(side) = situation.slots.get(&slot) {
        if keeps_other {
            b.leave_before_stop(situation, slot, slot.other());
        }
        // A start in place replaces a service, but nothing replaces one that the release does not have.
        let replaced = |name: &ServiceName| in_place && release.content.services.contains_key(name);
        b.stop_side(side, slot, |name| !staying.contains(name) && !replaced(name));
        b.leave_other_hosts(side, slot, |name| !staying.contains(name) && replaced(name));
    }
    if let Some(side) = situation.slots.get(&slot.other()).filter(|_| !keeps_other) {
        b.stop_side(side, slot.other(), |_| true);
    }
}

/// A worker that ends before its new version starts, so that no job runs twice.
fn is_replaced_worker(name: &ServiceName, side: &Side, release: &Release) -> bool {
    let was_worker = side.release.content.services.get(name).is_some_and(|s| !s.traffic);
    was_worker && side.services.contains(name) && release.content.services.contains_key(name)
}

fn refuse_long_way_back(policy: &Policy, release: &Release) -> Result<(), Refusal> {
    let (worst_ms, limit_ms) = (way_back_ms(policy, release), policy.rollback.timeout_ms);
    if worst_ms <= limit_ms {
        return Ok(());
    }
    Err(Refusal::new(
        format!(
            "the way back may take {} s, more than rollback.timeout ({} s)",
            worst_ms / 1000,
            limit_ms / 1000
        ),
        "raise rollback.timeout, or lower shutdown.drain, shutdown.grace, health.startup_timeout or the script's timeout",
    ))
}

pub(super) fn passes(policy: &Policy) -> u32 {
    policy.judge.consecutive_passes.max(1)
}

/// The slot for the new side: never the one with users where two fit.
fn free_slot(cx: &PlanContext<'_>, situation: &Situation, routed: bool) -> Slot {
    if cx.capabilities.replaces_in_place && !routed {
        return Slot::A;
    }
    situation.users_on().map_or(Slot::A, Slot::other)
}

/// Pushes the traffic steps and returns the index of the one that makes the new side live.
fn traffic_steps(
    b: &mut Builder<'_>,
    policy: &Policy,
    slot: Slot,
    warm: Option<Slot>,
    old: Option<Slot>,
) -> usize {
    let builtin = matches!(policy.router, RouterPolicy::Builtin { .. });
    // Where nothing goes back by itself the proxy does not either.
    let trip = TripRule::of(&policy.judge).filter(|_| builtin && policy.rollback.automatic);
    let Some(warm) = warm else {
        b.traffic(share(slot, 100, old), None);
        return b.steps.len() - 1;
    };
    let mut before = share(slot, 0, Some(warm));
    if let Strategy::Canary(CanaryPolicy { stages, on_no_data }) = &policy.strategy {
        for stage in stages.iter().filter(|stage| stage.weight < 100) {
            let now =
                TrafficStep { dead_man: builtin, trip, ..share(slot, stage.weight, Some(warm)) };
            b.traffic(now.clone(), Some(before));
            let mode = WatchMode::Hold { stage: *stage, on_no_data: *on_no_data };
            b.watch(&format!("hold_{}", stage.weight), mode, slot, Some(warm));
            before = now;
        }
    }
    b.traffic(share(slot, 100, Some(warm)), Some(before));
    b.steps.len() - 1
}

fn share(side: Slot, percent: u8, rest: Option<Slot>) -> TrafficStep {
    TrafficStep {
        side,
        percent,
        rest,
        dead_man: false,
        trip: None,
        gate: true,
        cut: false,
        stage: percent.to_string(),
    }
}

/// Longest way back by the limits that are set, milliseconds: stop, start again, pass the checks.
fn way_back_ms(policy: &Policy, release: &Release) -> u64 {
    let targets = release.content.services.values().map(|service| &service.target);
    let calls_ms: u64 = targets.filter_map(crate::model::TargetSpec::call_limit_ms).sum();
    let startup_ms = u64::try_from(policy.judge.startup_timeout_ms).unwrap_or(0);
    policy.shutdown.drain_ms + policy.shutdown.grace_ms + startup_ms + calls_ms
}
