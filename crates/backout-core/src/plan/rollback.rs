//! The plan of a rollback: traffic first, then release and config, then what is left over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::builder::Builder;
use super::deploy::passes;
use super::evidence::Moment;
use super::partial::{self, Seen};
use super::rolling::{self, RollOut};
use super::scale;
use super::situation::{PlanContext, Refusal, Side, Situation};
use super::step::{Action, Live, Nature, Plan, TrafficStep, WatchMode};
use crate::ids::{HostName, ServiceName, Slot};
use crate::model::{
    OperationKind, Release, RollbackType, RouterPolicy, Service, Strategy, Trigger,
};
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
    /// Hosts that still run `release` as it was: nothing was begun there.
    pub untouched: BTreeSet<HostName>,
    /// How many batches of a service a deploy had begun that is taken back, where it replaces some instances at a time.
    /// No entry: all.
    pub begun: BTreeMap<ServiceName, usize>,
    /// What caused it.
    pub trigger: Trigger,
    /// The sentences behind it.
    pub evidence: Vec<String>,
    /// The services that a person named; none: all of them, and the config files.
    pub services: Vec<ServiceName>,
    /// What was seen of single services. Nothing seen: all of them go back.
    pub seen: Seen,
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
        None if partial::staying(cx, situation, &wish.release, &wish.seen).is_some() => {
            shared_slot_steps(&mut b, cx, situation, wish, routed)
        }
        Some((slot, side)) if routed => warm_steps(&mut b, cx, situation, wish, slot, side),
        Some((slot, side)) => unrouted_warm_steps(&mut b, cx, situation, wish, slot, side),
        None => cold_steps(&mut b, cx, situation, wish, routed),
    };
    let is_switch = warm.is_some() && routed && wish.trigger == Trigger::Manual;
    let mut steps = b.steps;
    let sides = situation.slots.values().map(|side| side.release.as_ref());
    partial::name_own_versions(&mut steps, sides.chain([wish.release.as_ref()]));
    partial::give_jobs_time(&mut steps, &wish.release);
    let mut plan = cx.plan(OperationKind::Rollback, situation.live.clone(), slot, steps);
    plan.services.clone_from(&wish.services);
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
    b.keep_evidence(cx, situation, wish.left.as_ref(), Moment::BeforeStart);
    stop_others(b, situation, Slot::A);
    // A start in place replaces a service, but nothing replaces one that the release does not have.
    b.leave_behind(situation, Slot::A, |name| wish.release.content.services.contains_key(name));
    let shared = partial::staying(cx, situation, &wish.release, &wish.seen);
    let staying = shared.map(|(_, staying)| staying).unwrap_or_default();
    let mut changed: BTreeSet<_> = wish.release.content.services.keys().cloned().collect();
    changed.retain(|name| !staying.contains(name));
    // Nothing is left: it is only started again.
    let side = situation.slots.get(&Slot::A).filter(|_| wish.left.is_some());
    let some = scale::back(cx, situation, wish);
    let stops = some.is_empty();
    let order = partial::way_back(&wish.release, side, &changed, &wish.seen.down, stops);
    for (side, name) in side.into_iter().flat_map(|side| order.stops.iter().map(move |n| (side, n)))
    {
        b.stop(name, side, Slot::A);
    }
    restore_config(b, wish);
    let known = &wish.release.content.services;
    let services = order.starts.iter().filter_map(|name| known.get(name));
    let services: Vec<&Service> = services.filter(|service| starts(service, wish)).collect();
    let out = RollOut {
        release: &wish.release,
        deployment: cx.number,
        slot: Slot::A,
        restore: true,
        revert: None,
        passes: passes(cx.policy),
        some,
    };
    let batches = rolling::way_back(cx.policy, &|host| wish.untouched.contains(host));
    b.roll_out(&out, &batches, &services, cx.policy);
    verify(b, cx, Slot::A);
    // On several hosts the last step of a wave is not the last one to be done: the proof is.
    let several = batches.iter().map(Vec::len).sum::<usize>() > 1;
    (Slot::A, if several { b.steps.len() - 1 } else { last_start(b) })
}

/// A job ran when its release was deployed. It runs again only where that is asked for, and something is left.
fn starts(service: &Service, wish: &RollbackWish) -> bool {
    service.job.is_none_or(|job| job.on_rollback && wish.left.is_some())
}

/// Config files belong to the whole app: they stay where only some of its services go back.
fn restore_config(b: &mut Builder<'_>, wish: &RollbackWish) {
    if wish.services.is_empty() {
        b.restore_config(&wish.release);
    }
}

/// With the last start what was gone back to is live; with its proof, where nothing had to start.
fn last_start(b: &Builder<'_>) -> usize {
    let is_start = |step: &super::step::Step| matches!(step.action, Action::Start { .. });
    b.steps.iter().rposition(is_start).unwrap_or(b.steps.len() - 1)
}

/// What differs is stopped and started in the slot in which the rest goes on.
fn shared_slot_steps(
    b: &mut Builder<'_>,
    cx: &PlanContext<'_>,
    situation: &Situation,
    wish: &RollbackWish,
    routed: bool,
) -> (Slot, usize) {
    let shared = partial::staying(cx, situation, &wish.release, &wish.seen);
    let (slot, staying) = shared.unwrap_or((Slot::A, BTreeSet::new()));
    b.ensure_router();
    b.keep_evidence(cx, situation, wish.left.as_ref(), Moment::BeforeStart);
    stop_others(b, situation, slot);
    if let Some(side) = situation.slots.get(&slot) {
        b.stop_side(side, slot, |name| !staying.contains(name));
    }
    restore_config(b, wish);
    let changed = |s: &&Service| !staying.contains(&s.name) && starts(s, wish);
    for service in Builder::ordered(&wish.release).filter(changed) {
        b.start(service, &wish.release, cx.number, slot, true);
    }
    if !routed {
        verify(b, cx, slot);
        return (slot, last_start(b));
    }
    b.watch("await_ready", WatchMode::Ready { passes: passes(cx.policy), hold_ms: 0 }, slot, None);
    let live_at = all_traffic(b, slot, None);
    verify(b, cx, slot);
    (slot, live_at)
}

/// Users go to `slot` alone. Returns the index of that step.
fn all_traffic(b: &mut Builder<'_>, slot: Slot, rest: Option<Slot>) -> usize {
    let (dead_man, trip, gate, cut) = (false, None, true, true);
    let stage = "rollback".to_owned();
    b.traffic(
        TrafficStep { side: slot, percent: 100, rest, dead_man, trip, gate, cut, stage },
        None,
    );
    b.steps.len() - 1
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
    restore_config(b, wish);
    let bad_side = situation.slots.get(&bad);
    let stops_worker = |service: &crate::model::Service| {
        !service.traffic && bad_side.is_some_and(|bad| bad.services.contains(&service.name))
    };
    // Before the first thing that ends; where nothing ends so early, users are verified first.
    let early = wish.release.content.services.values().any(stops_worker);
    if early {
        b.keep_evidence(cx, situation, wish.left.as_ref(), Moment::AfterTraffic);
    }
    for service in Builder::ordered(&wish.release).filter(|service| !service.traffic) {
        if let Some(bad_side) =
            bad_side.filter(|bad_side| bad_side.services.contains(&service.name))
        {
            b.stop(&service.name, bad_side, bad);
        }
        let missing = !side.services.contains(&service.name) || side.idle.contains(&service.name);
        if starts(service, wish) && (missing || service.job.is_some()) {
            b.start(service, &wish.release, cx.number, slot, true);
        }
    }
    verify(b, cx, slot);
    if !early {
        b.keep_evidence(cx, situation, wish.left.as_ref(), Moment::AfterTraffic);
    }
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
    b.keep_evidence(cx, situation, wish.left.as_ref(), Moment::BeforeStart);
    stop_others(b, situation, slot);
    restore_config(b, wish);
    let missing = |name: &ServiceName| !side.services.contains(name) || side.idle.contains(name);
    let missing = |service: &&Service| missing(&service.name) && starts(service, wish);
    for service in Builder::ordered(&wish.release).filter(missing) {
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
        b.keep_evidence(cx, situation, wish.left.as_ref(), Moment::BeforeStart);
        for (other, side) in &situation.slots {
            b.stop_side(side, *other, |_| true);
        }
    }
    restore_config(b, wish);
    for service in Builder::ordered(&wish.release).filter(|service| starts(service, wish)) {
        b.start(service, &wish.release, cx.number, slot, true);
    }
    if !routed {
        verify(b, cx, slot);
        return (slot, b.steps.len() - 1);
    }
    b.watch("await_ready", WatchMode::Ready { passes: passes(cx.policy), hold_ms: 0 }, slot, None);
    let bad_side = bad_side.filter(|_| beside);
    let live_at = all_traffic(b, slot, bad_side.map(|_| bad));
    verify(b, cx, slot);
    if beside {
        b.keep_evidence(cx, situation, wish.left.as_ref(), Moment::AfterTraffic);
    }
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
