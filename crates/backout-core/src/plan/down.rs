//! The plan that stops what runs: `down`, and the way back of a first deployment.

use super::builder::Builder;
use super::evidence::Moment;
use super::situation::{PlanContext, Situation};
use super::step::{Live, Nature, Plan, TrafficStep};
use crate::ids::Slot;
use crate::model::{OperationKind, Release, RouterPolicy, Trigger};

/// Makes the plan that leaves nothing running. `taken_back` names the first deployment that it takes back, and why.
#[must_use]
pub fn plan_down(
    cx: &PlanContext<'_>,
    situation: &Situation,
    taken_back: Option<(Live, Trigger, Vec<String>, bool)>,
) -> Plan {
    let mut b = Builder::new(cx, Nature::Retriable);
    match cx.policy.router {
        RouterPolicy::Builtin { .. } => b.remove_route(),
        RouterPolicy::Script => {
            // The side that serves is what the script knows as the version with traffic.
            let live = situation.live.as_ref().map(|live| live.slot);
            let serving = live.filter(|slot| situation.slots.contains_key(slot));
            if let Some(side) = serving.or_else(|| situation.slots.keys().next().copied()) {
                b.traffic(
                    TrafficStep {
                        side,
                        percent: 0,
                        rest: None,
                        dead_man: false,
                        trip: None,
                        gate: false,
                        cut: true,
                        stage: "rollback".to_owned(),
                    },
                    None,
                );
            }
        }
        RouterPolicy::None => {}
    }
    let left = taken_back.as_ref().map(|(left, ..)| left);
    b.keep_evidence(cx, situation, left, Moment::AfterTraffic);
    for (slot, side) in &situation.slots {
        b.stop_side(side, *slot, |_| true);
    }
    let slot = situation.live.as_ref().map_or(Slot::A, |live| live.slot);
    let mut plan = cx.plan(OperationKind::Down, situation.live.clone(), slot, b.steps);
    plan.deployment = None;
    plan.deployment_id = None;
    plan.work_timeout_ms = cx.policy.rollback.timeout_ms;
    if let Some((left, trigger, evidence, bad)) = taken_back {
        plan.left = Some(left);
        plan.trigger = Some(trigger);
        plan.evidence = evidence;
        plan.reject_left = bad;
    }
    plan
}

/// The plan that records a release as #0: its artifacts are copied, nothing is started or stopped.
#[must_use]
pub fn plan_adopt(cx: &PlanContext<'_>, release: &Release) -> Plan {
    let mut b = Builder::new(cx, Nature::Retriable);
    b.pin_artifacts(release);
    let mut plan = cx.plan(OperationKind::Adopt, None, Slot::A, b.steps);
    plan.release = Some(release.id.clone());
    plan.version = Some(release.content.version.clone());
    plan
}
