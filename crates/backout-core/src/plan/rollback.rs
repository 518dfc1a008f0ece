//! The plan of a rollback: traffic first, then release and config, then what is left over.

use std::sync::Arc;

use super::builder::Builder;
use super::deploy::passes;
use super::situation::{PlanContext, Refusal, Side, Situation};
use super::step::{Live, Nature, Plan, TrafficStep, WatchMode};
use crate::ids::Slot;
use crate::model::{OperationKind, Release, RollbackType, RouterPolicy, Trigger};
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
    let warm = warm_slot(situation, wish);
    let (slot, live_at) = match warm {
        _ if in_place => in_place_steps(&mut b, cx, wish),
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

/// The slot in which every traffic-bearing service of the release is seen running. The side that is left
/// is never it, also where both run the same release.
fn warm_slot<'a>(situation: &'a Situation, wish: &RollbackWish) -> Option<(Slot, &'a Side)> {
    let release = &wish.release;
    situation
        .slots
        .iter()
        .find(|(_, side)| {
            let serving = |name| side.services.contains(name);
            side.release.id == release.id
                && side.running == Running::Yes
                && wish.left.as_ref().is_none_or(|left| left.number != side.deployment)
                && release.content.services.values().filter(|s| s.traffic).all(|s| serving(&s.name))
        })
        .map(|(slot, side)| (*slot, side))
}

fn verify(b: &mut Builder<'_>, cx: &PlanContext<'_>, slot: Slot) {
    let mode = WatchMode::Verify {
        passes: passes(cx.policy),
        deadline_ms: cx.policy.rollback.deadline_ms,
    };
    b.watch("verify", mode, slot, None);
}

fn in_place_steps(b: &mut Builder<'_>, cx: &PlanContext<'_>, wish: &RollbackWish) -> (Slot, usize) {
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
    let back = TrafficStep {
        side: bad,
        percent: 0,
        rest: Some(slot),
        dead_man: false,
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
        if !side.services.contains(&service.name) {
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
    for service in
        Builder::ordered(&wish.release).filter(|service| !side.services.contains(&service.name))
    {
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
    let busy = traffic_slot(situation);
    let slot = busy.map_or(Slot::A, Slot::other);
    let beside = routed && cx.capabilities.side_by_side;
    b.ensure_router();
    if beside {
        if let Some(side) = situation.slots.get(&slot) {
            b.stop_side(side, slot, |_| true);
        }
        if let Some((bad, side)) = busy.and_then(|bad| situation.slots.get_key_value(&bad)) {
            // Workers of both releases must not run at once.
            let worker =
                |name: &_| side.release.content.services.get(name).is_some_and(|s| !s.traffic);
            b.stop_side(side, *bad, worker);
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
    let rest = busy.filter(|bad| beside && situation.slots.contains_key(bad));
    b.traffic(
        TrafficStep {
            side: slot,
            percent: 100,
            rest,
            dead_man: false,
            gate: true,
            cut: true,
            stage: "rollback".to_owned(),
        },
        None,
    );
    let live_at = b.steps.len() - 1;
    verify(b, cx, slot);
    if let Some(bad) = rest {
        b.drain(bad);
        stop_others_serving(b, situation, bad);
    }
    (slot, live_at)
}

/// The slot that users are on now.
fn traffic_slot(situation: &Situation) -> Option<Slot> {
    let heaviest = situation.weights.as_ref().and_then(|weights| {
        weights.iter().filter(|(_, w)| **w > 0).max_by_key(|(_, w)| **w).map(|(s, _)| *s)
    });
    heaviest.or_else(|| situation.live.as_ref().map(|live| live.slot))
}

fn stop_others(b: &mut Builder<'_>, situation: &Situation, slot: Slot) {
    for (other, side) in situation.slots.iter().filter(|(other, _)| **other != slot) {
        b.stop_side(side, *other, |_| true);
    }
}

fn stop_others_serving(b: &mut Builder<'_>, situation: &Situation, bad: Slot) {
    if let Some(side) = situation.slots.get(&bad) {
        let serving = |name: &_| side.release.content.services.get(name).is_none_or(|s| s.traffic);
        b.stop_side(side, bad, serving);
    }
}
