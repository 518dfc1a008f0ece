//! Some services of an app, while the others stay as they are.

use std::collections::BTreeSet;

use super::situation::{PlanContext, Side, Situation};
use super::step::{Action, Step};
use crate::ids::{ServiceName, Slot};
use crate::model::{Release, RouterPolicy, Strategy, TargetSpec};

/// What was seen of single services, where each is replaced in its own place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// They run as the release wants them, and nothing was begun with them since: they are left alone.
    pub as_wanted: BTreeSet<ServiceName>,
    /// They do not run.
    pub down: BTreeSet<ServiceName>,
}

/// The slot in which services are replaced one by one while the others stay. `None` where a release always begins
/// in a slot of its own, or where none of its services can stay.
#[must_use]
pub fn shared_slot(cx: &PlanContext<'_>, situation: &Situation, release: &Release) -> Option<Slot> {
    let routed = cx.policy.router != RouterPolicy::None;
    let in_place = cx.capabilities.replaces_in_place && !routed;
    let beside = match cx.policy.strategy {
        Strategy::Recreate | Strategy::Rolling { .. } => false,
        Strategy::BlueGreen { .. } => true,
        Strategy::Canary(_) => routed,
    };
    let slot = match (in_place, beside && cx.capabilities.side_by_side) {
        (true, _) => Slot::A,
        (false, true) => return None,
        (false, false) => situation.users_on()?,
    };
    let side = situation.slots.get(&slot)?;
    release.content.services.keys().any(|name| side.services.contains(name)).then_some(slot)
}

/// The services that stay in the slot of [`shared_slot`].
pub(super) fn staying(
    cx: &PlanContext<'_>,
    situation: &Situation,
    release: &Release,
    seen: &Seen,
) -> Option<(Slot, BTreeSet<ServiceName>)> {
    let slot = shared_slot(cx, situation, release)?;
    let side = situation.slots.get(&slot)?;
    let stays = |name: &&ServiceName| {
        let service = release.content.services.get(*name);
        service.is_some_and(|service| service.job.is_some() || side.services.contains(*name))
    };
    let staying: BTreeSet<_> = seen.as_wanted.iter().filter(stays).cloned().collect();
    (!staying.is_empty()).then_some((slot, staying))
}

/// How services go back that are replaced where they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WayBack {
    /// Stopped first, in this order.
    pub stops: Vec<ServiceName>,
    /// Then started, in this order.
    pub starts: Vec<ServiceName>,
}

/// The order in which `changed` services go back to `release`.
///
/// What Backout can stop (and may: `stops`) is stopped first where something under it goes back too, the last started
/// first; then all start, each after what it needs. What can't be stopped by itself (a script's work, a working tree)
/// is replaced in the reverse order of the way there, so that nothing new ever meets something older under it; only
/// what is down and needed goes first. So is what is replaced some instances at a time, to go on all the while.
pub(super) fn way_back(
    release: &Release,
    side: Option<&Side>,
    changed: &BTreeSet<ServiceName>,
    down: &BTreeSet<ServiceName>,
    stops: bool,
) -> WayBack {
    let mut starts = release.content.start_order();
    starts.retain(|name| changed.contains(name));
    let runs = |name: &ServiceName| {
        side.is_some_and(|side| side.services.contains(name)) && !down.contains(name)
    };
    if !starts.iter().any(&runs) {
        return WayBack { stops: Vec::new(), starts };
    }
    let stoppable = |name: &ServiceName| {
        let target = release.content.services.get(name).map(|service| &service.target);
        !matches!(target, Some(TargetSpec::Script(_) | TargetSpec::Git(_)))
    };
    if stops && starts.iter().all(stoppable) {
        let on_others = |name: &&ServiceName| {
            runs(name) && starts.iter().any(|other| needs(release, name, other))
        };
        let stops = starts.iter().rev().filter(on_others).cloned().collect();
        return WayBack { stops, starts };
    }
    WayBack { stops: Vec::new(), starts: reversed(release, starts, runs) }
}

/// Dependents before what they need, unless that is down: then after it.
fn reversed(
    release: &Release,
    mut open: Vec<ServiceName>,
    runs: impl Fn(&ServiceName) -> bool,
) -> Vec<ServiceName> {
    open.reverse();
    let mut order = Vec::with_capacity(open.len());
    while !open.is_empty() {
        let waits = |name: &ServiceName| {
            open.iter().any(|other| {
                let (above, under) = (needs(release, other, name), needs(release, name, other));
                (above && runs(name)) || (under && !runs(other))
            })
        };
        // Both rules point along the same edges, so that something is always free: the first, if not.
        let next = open.iter().position(|name| !waits(name)).unwrap_or(0);
        order.push(open.remove(next));
    }
    order
}

/// Whether one service needs another directly or through others.
fn needs(release: &Release, service: &ServiceName, other: &ServiceName) -> bool {
    let mut seen = BTreeSet::from([service]);
    let mut open = vec![service];
    while let Some(name) = open.pop() {
        let of = release.content.services.get(name).into_iter().flat_map(|s| &s.depends_on);
        for next in of {
            if next == other {
                return true;
            }
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    false
}

/// How long a step may take beyond the limit of its job, milliseconds.
const MARGIN_MS: u64 = 30_000;

/// A start of a job is over when the job is.
pub(super) fn give_jobs_time(steps: &mut [Step], release: &Release) {
    for step in steps {
        let Action::Start { service, .. } = &step.action else { continue };
        let job = release.content.services.get(service).and_then(|service| service.job);
        if let Some(job) = job {
            step.timeout_ms = job.timeout_ms + MARGIN_MS;
            step.after =
                format!("{service} {} has ended with 0", release.content.version_of(service));
        }
    }
}

/// Puts the version that a service really has into the words of its steps.
pub(super) fn name_own_versions<'a>(
    steps: &mut [Step],
    releases: impl IntoIterator<Item = &'a Release>,
) {
    for release in releases {
        if release.content.origins.is_empty() {
            continue;
        }
        for step in steps.iter_mut() {
            let (Action::Start { service, release: of, .. }
            | Action::Stop { service, release: of, .. }) = &step.action
            else {
                continue;
            };
            if *of == release.id {
                let told = format!("{service} {} ", release.content.version);
                let own = format!("{service} {} ", release.content.version_of(service));
                step.before = step.before.replacen(&told, &own, 1);
                step.after = step.after.replacen(&told, &own, 1);
            }
        }
    }
}
