//! The plan of a rollback: traffic first, then release and config, then what is left over.

use std::sync::Arc;

use super::builder::Builder;
use super::deploy::passes;
use super::situation::{PlanContext, Refusal, Side, Situation};
use super::step::{Live, Nature, Plan, TrafficStep, WatchMode};
use crate::ids::{ServiceName, Slot};
use crate::model::{OperationKind, Release, RollbackType, RouterPolicy, Strategy, Trigger};
use crate::ports::Running;

/// What a rollback is asked for.
#[derive(Debug, Clone)]
pub struct RollbackWish {
    /// The release that shall be live again.
    pub release: Arc<Release>,
    /// It passed its bake before.
    pub was_stable: bool,
    /// The deployment that is left: what is live, or the one whose rollout is taken back.
    pub left: Option<Live>,
    /// That one counts as bad.
    pub reject_left: bool,
    /// How the target was found.
    pub rollback_type: RollbackType,
    /// What caused it.
    pub trigger: Trigger,
    /// The sentences behind it.
    pub evidence: Vec<String>,
}

/// Makes the plan that takes `wish.release` live again.
///
/// # Errors
/// [`Refusal`] when the release has no service.
pub fn plan_rollback(
    cx: &PlanContext<'_>,
    situation: &Situation,
    wish: &RollbackWish,
) -> Result<Plan, Refusal> {
    if wish.release.content.services.is_empty() {
        return Err(Refusal::new(
            "the release to go back to has no service",
            "choose another with --version",
        ));
    }
    let mut b = Builder::new(cx, Nature::Retriable);
    b.snapshot();
    let routed = cx.policy.router != RouterPolicy::None;
    let in_place = cx.capabilities.replaces_in_place && !routed;
    let warm = warm_slot(cx, situation, wish, routed);
    let (slot, live_at) = match warm {
        _ if in_place => in_place_steps(&mut b, cx, situation, wish),
        Some((slot, side)) if routed => warm_steps(&mut b, cx, situation, wish, slot, side),
        Some((slot, side)) => unrouted_warm_steps(&mut b, cx, situation, wish, slot, side),
        None => cold_steps(&mut b, cx, situation, wish, routed),
    };
    let is_switch = warm.is_some() && routed && wish.trigger == Trigger::Manual;
    let mut plan = cx.plan(OperationKind::Rollback, situation.live.clone(), slot, b.steps);
    plan.rollback_id = Some(cx.rollback_id.clone());
    plan.release = Some(wish.release.id.clone());
    plan.version = Some(wish.release.content.version.clone());
    plan.left.clone_from(&wish.left);
    plan.reject_left = wish.reject_left;
    plan.target_was_stable = wish.was_stable;
    plan.rollback_type = Some(match wish.rollback_type {
        RollbackType::Previous if is_switch => RollbackType::BlueGreenSwitch,
        other => other,
    });
    plan.trigger = Some(wish.trigger);
    plan.evidence.clone_from(&wish.evidence);
    plan.work_timeout_ms = cx.policy.rollback.timeout_ms;
    plan.live_at = Some(live_at);
    Ok(plan)
}

/// The slot in which every traffic-bearing service of the release runs, and not for the deployment that is left.
///
/// Where the target can't tell whether anything runs (a script without `status`), the ledger is believed:
/// the check before the traffic move has the last word.
fn warm_slot<'a>(
    cx: &PlanContext<'_>,
    situation: &'a Situation,
    wish: &RollbackWish,
    routed: bool,
) -> Option<(Slot, &'a Side)> {
    let believed = routed && !cx.capabilities.addressable;
    let runs = |side: &Side| match side.running {
        Running::Yes => true,
        Running::Unknown => believed,
        Running::No => false,
    };
    situation
        .slots
        .iter()
        .find(|(_, side)| {
            let mut serving = wish.release.content.services.values().filter(|s| s.traffic);
            side.release.id == wish.release.id
                && !is_left(side, wish)
                && runs(side)
                && serving.all(|s| side.services.contains(&s.name))
        })
        .map(|(slot, side)| (*slot, side))
}

fn is_left(side: &Side, wish: &RollbackWish) -> bool {
    wish.left.as_ref().is_some_and(|left| left.number == side.deployment)
}

fn verify(b: &mut Builder<'_>, cx: &PlanContext<'_>, slot: Slot) {
    let mode = WatchMode::Verify {
        passes: passes(cx.policy),
        deadline_ms: cx.policy.rollback.deadline_ms,
    };
    b.watch("verify", mode, slot, None);
}

fn in_place_steps(
    b: &mut Builder<'_>,
    cx: &PlanContext<'_>,
    situation: &Situation,
    wish: &RollbackWish,
) -> (Slot, usize) {
    stop_others(b, situation, Slot::A);
    if let Some(side) = situation.slots.get(&Slot::A) {
        // A start in place replaces a service, but nothing replaces one that the release does not have.
        b.stop_side(side, Slot::A, |name| !wish.release.content.services.contains_key(name));
    }
    b.restore_config(&wish.release);
    for service in Builder::ordered(&wish.release) {
        b.start(service, &wish.release, cx.number, Slot::A, true);
    }
    verify(b, cx, Slot::A);
    (Slot::A, b.steps.len() - 2)
}

/// The old side still runs: users are safe with the first effect.
fn warm_steps(
    b: &mut Builder<'_>,
    cx: &PlanContext<'_>,
    situation: &Situation,
    wish: &RollbackWish,
    slot: Slot,
    side: &Side,
) -> (Slot, usize) {
    let bad = slot.other();
    if situation.weights.is_none() {
        b.ensure_router();
    }
    let back = TrafficStep {
        side: bad,
        percent: 0,
        rest: Some(slot),
        dead_man: false,
        trip: None,
        gate: true,
        cut: true,
        stage: "rollback".to_owned(),
    };
    b.traffic(back, None);
    let live_at = b.steps.len() - 1;
    b.restore_config(&wish.release);
    let bad_side = situation.slots.get(&bad);
    for service in Builder::ordered(&wish.release).filter(|service| !service.traffic) {
        if let Some(bad_side) =
            bad_side.filter(|bad_side| bad_side.services.contains(&service.name))
        {
            b.stop(&service.name, bad_side, bad);
        }
        if !side.services.contains(&service.name) || side.idle.contains(&service.name) {
            b.start(service, &wish.release, cx.number, slot, true);
        }
    }
    verify(b, cx, slot);
    if let Some(bad_side) = bad_side {
        b.drain(bad);
        let worker = |name: &_| wish.release.content.services.get(name).is_some_and(|s| !s.traffic);
        b.stop_side(bad_side, bad, |name| !worker(name));
    }
    (slot, live_at)
}

/// It runs, and nothing routes: what runs beside it goes, and it is verified.
fn unrouted_warm_steps(
    b: &mut Builder<'_>,
    cx: &PlanContext<'_>,
    situation: &Situation,
    wish: &RollbackWish,
    slot: Slot,
    side: &Side,
) -> (Slot, usize) {
    stop_others(b, situation, slot);
    b.restore_config(&wish.release);
    let missing = |name: &ServiceName| !side.services.contains(name) || side.idle.contains(name);
    for service in Builder::ordered(&wish.release).filter(|service| missing(&service.name)) {
        b.start(service, &wish.release, cx.number, slot, true);
    }
    verify(b, cx, slot);
    (slot, b.steps.len() - 1)
}

/// It has to be started again.
fn cold_steps(
    b: &mut Builder<'_>,
    cx: &PlanContext<'_>,
    situation: &Situation,
    wish: &RollbackWish,
    routed: bool,
) -> (Slot, usize) {
    let slot = situation.users_on().map_or(Slot::A, Slot::other);
    let bad = slot.other();
    // Whoever chose `recreate` has programs that must not run twice, on the way back no more than before.
    let beside = routed && cx.capabilities.side_by_side && cx.policy.strategy != Strategy::Recreate;
    let bad_side = situation.slots.get(&bad);
    b.ensure_router();
    if beside {
        if let Some(side) = situation.slots.get(&slot) {
            b.leave_before_stop(situation, slot, bad);
            b.stop_side(side, slot, |_| true);
        }
        if let Some(side) = bad_side {
            // Workers of both releases must not run at once.
            b.stop_side(side, bad, |name| is_worker(name, side));
        }
    } else {
        for (other, side) in &situation.slots {
            b.stop_side(side, *other, |_| true);
        }
    }
    b.restore_config(&wish.release);
    for service in Builder::ordered(&wish.release) {
        b.start(service, &wish.release, cx.number, slot, true);
    }
    if !routed {
        verify(b, cx, slot);
        return (slot, b.steps.len() - 1);
    }
    b.watch("await_ready", WatchMode::Ready { passes: passes(cx.policy) }, slot, None);
    let bad_side = bad_side.filter(|_| beside);
    b.traffic(
        TrafficStep {
            side: slot,
            percent: 100,
            rest: bad_side.map(|_| bad),
            dead_man: false,
            trip: None,
            gate: true,
            cut: true,
            stage: "rollback".to_owned(),
        },
        None,
    );
    let live_at = b.steps.len() - 1;
    verify(b, cx, slot);
    if let Some(side) = bad_side {
        b.drain(bad);
        b.stop_side(side, bad, |name| !is_worker(name, side));
    }
    (slot, live_at)
}

fn is_worker(name: &ServiceName, side: &Side) -> bool {
    side.release.content.services.get(name).is_some_and(|service| !service.traffic)
}

fn stop_others(b: &mut Builder<'_>, situation: &Situation, slot: Slot) {
    for (other, side) in situation.slots.iter().filter(|(other, _)| **other != slot) {
        b.stop_side(side, *other, |_| true);
    }
}
