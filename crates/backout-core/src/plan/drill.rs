//! The plan of a drill: the way back is tried beside what runs, gets no traffic, and is ended again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::builder::Builder;
use super::situation::{PlanContext, Refusal, Side, Situation};
use super::step::{Action, Live, Nature, Phase, Plan, Step};
use crate::ids::{ServiceName, Slot};
use crate::model::{OperationKind, Release, Strategy};
use crate::ports::Running;

/// One try: whatever comes of it is the result.
const ATTEMPTS: u32 = 1;
/// For looking at copies and for the checks, beyond the time that a start is given, milliseconds.
const MARGIN_MS: u64 = 5 * 60_000;

/// Why a release can only be rehearsed without being started; `None`: it can be started beside what runs.
#[must_use]
pub fn not_beside(cx: &PlanContext<'_>) -> Option<&'static str> {
    let can = cx.capabilities;
    match () {
        () if !can.side_by_side || can.replaces_in_place => {
            Some("this target can't run two releases side by side")
        }
        () if !can.addressable => Some("what it starts has no address of its own to be checked at"),
        () if cx.policy.strategy == Strategy::Recreate => {
            Some("with strategy recreate two releases must not run at once")
        }
        () => None,
    }
}

/// Makes the plan that rehearses going back to `target`, whose release is `release`; `beside`: it is started.
///
/// # Errors
/// [`Refusal`] where nothing is live, or the slot beside it is not free.
pub fn plan_drill(
    cx: &PlanContext<'_>,
    situation: &Situation,
    target: &Live,
    release: &Arc<Release>,
    beside: bool,
) -> Result<Plan, Refusal> {
    let Some(live) = situation.live.as_ref() else {
        return Err(Refusal::new("nothing is live", "there is no way back to rehearse"));
    };
    let slot = situation.users_on().map_or(Slot::A, Slot::other);
    if beside && let Some(side) = situation.slots.get(&slot) {
        return Err(Refusal::new(
            format!("slot {slot} holds #{} {}", side.deployment, side.release.content.version),
            "`backout recover` or `backout deploy` empties it; a drill needs it for itself",
        ));
    }
    let serving: BTreeSet<ServiceName> = release
        .content
        .services
        .values()
        .filter(|service| service.traffic)
        .map(|service| service.name.clone())
        .collect();
    let mut b = Builder::new(cx, Nature::Retriable);
    if beside {
        for service in Builder::ordered(release).filter(|service| service.traffic) {
            b.start(service, release, target.number, slot, true);
        }
    }
    rehearse(&mut b, cx, (slot, release, target), beside);
    if beside {
        let hosts = cx.policy.hosts.names.iter().cloned().collect::<BTreeSet<_>>();
        let side = Side {
            deployment: target.number,
            release: Arc::clone(release),
            running: Running::Unknown,
            hosts: serving.iter().map(|name| (name.clone(), hosts.clone())).collect(),
            services: serving,
            idle: BTreeSet::new(),
        };
        b.stop_side(&side, slot, |_| true);
    }
    let mut plan = cx.plan(OperationKind::Drill, Some(live.clone()), slot, b.steps);
    plan.deployment = None;
    plan.deployment_id = None;
    plan.release = Some(release.id.clone());
    plan.version = Some(release.content.version.clone());
    plan.work_timeout_ms = cx.policy.rollback.timeout_ms;
    Ok(plan)
}

fn rehearse(
    b: &mut Builder<'_>,
    cx: &PlanContext<'_>,
    (slot, release, target): (Slot, &Release, &Live),
    beside: bool,
) {
    let start_ms = u64::try_from(cx.policy.judge.startup_timeout_ms).unwrap_or(60_000);
    let version = &release.content.version;
    b.steps.push(Step {
        key: format!("{:02}-rehearse/-", b.steps.len()),
        name: "rehearse".to_owned(),
        phase: Phase::Start,
        subject: cx.key.to_string(),
        before: format!("the way back to #{} {version} not proven", target.number),
        after: if beside {
            format!("{version} passes its checks in slot {slot}, without traffic")
        } else {
            format!("what {version} needs is there and whole")
        },
        action: Action::Rehearse {
            slot,
            release: release.id.clone(),
            deployment: target.number,
            beside,
        },
        compensation: None,
        nature: Nature::Retriable,
        timeout_ms: start_ms + MARGIN_MS,
        max_attempts: ATTEMPTS,
        wave: None,
    });
}
