//! Where instances of a service stand beside each other on one host: some of them are replaced at a time.

use std::collections::BTreeMap;

use super::builder::Builder;
use super::rollback::RollbackWish;
use super::rolling::RollOut;
use super::situation::{PlanContext, Situation};
use crate::ids::{HostName, ServiceName, Slot};
use crate::model::{Policy, Release, ReplicaBatch, Replicas, RouterPolicy, Service, Strategy};

/// A plan has no more steps than this for one service.
const MAX_BATCHES: u32 = 100;

/// The batches of one service, in order.
pub(super) struct Batches {
    pub batches: Vec<ReplicaBatch>,
    /// How many instances there are in the end.
    of: u32,
}

/// The batches in which a deploy replaces services; those without an entry are replaced as a whole.
pub(super) fn forward(
    cx: &PlanContext<'_>,
    situation: &Situation,
    release: &Release,
) -> BTreeMap<ServiceName, Batches> {
    let Some(side) = situation.slots.get(&Slot::A).filter(|_| applies(cx)) else {
        return BTreeMap::new();
    };
    let there = |service: &&Service| side.services.contains(&service.name);
    let of = |service: &Service| {
        let new = replicas(service)?;
        let old = side.release.content.services.get(&service.name).and_then(replicas);
        let states = states(old.unwrap_or(new).count, new, &cx.policy.strategy);
        let batch = |pair: &[(u32, u32)]| (pair[1].0, pair[1].1);
        Some(batches(states.windows(2).map(batch), &states, new.count, cx.policy))
    };
    let services = release.content.services.values().filter(there);
    services.filter_map(|service| Some((service.name.clone(), of(service)?))).collect()
}

/// The same batches reversed, from what is left to what was there before; of a deploy that did not come to its end
/// only those that it had begun.
pub(super) fn back(
    cx: &PlanContext<'_>,
    situation: &Situation,
    wish: &RollbackWish,
) -> BTreeMap<ServiceName, Batches> {
    let left = situation.slots.get(&Slot::A).filter(|_| applies(cx) && wish.left.is_some());
    let Some(left) = left else { return BTreeMap::new() };
    let there = |service: &&Service| left.services.contains(&service.name);
    let of = |service: &Service| {
        let old = replicas(service)?;
        let new = left.release.content.services.get(&service.name).and_then(replicas);
        let states = states(old.count, new.unwrap_or(old), &cx.policy.strategy);
        let begun = wish.begun.get(&service.name).copied().unwrap_or(states.len());
        let begun = states.windows(2).take(begun).rev();
        let batch = |pair: &[(u32, u32)]| (pair[0].1, pair[0].0);
        let batches = batches(begun.map(batch), &states, old.count, cx.policy);
        (!batches.batches.is_empty()).then_some(batches)
    };
    let services = wish.release.content.services.values().filter(there);
    services.filter_map(|service| Some((service.name.clone(), of(service)?))).collect()
}

/// One host that does not go back by itself, nothing that moves traffic, and old and new in the same place.
fn applies(cx: &PlanContext<'_>) -> bool {
    let hosts = &cx.policy.hosts;
    let guarded = hosts.confirm_ms.is_some() && hosts.names.iter().any(|host| !host.is_local());
    !guarded
        && hosts.names.len() == 1
        && matches!(cx.policy.strategy, Strategy::Rolling { .. })
        && cx.policy.router == RouterPolicy::None
        && cx.capabilities.replaces_in_place
}

/// A worker ends before its new version starts, and a job runs by itself.
fn replicas(service: &Service) -> Option<Replicas> {
    let replicas =
        service.target.replicas().filter(|_| service.traffic && service.job.is_none())?;
    replicas.at_most.is_none_or(|most| most > replicas.count).then_some(replicas)
}

/// How many of the new release and of the old one run: before the first batch, and after each. There are never fewer
/// than the smaller of both releases has.
fn states(old: u32, new: Replicas, strategy: &Strategy) -> Vec<(u32, u32)> {
    let Strategy::Rolling { batch, .. } = strategy else { return Vec::new() };
    let all = usize::try_from(new.count).unwrap_or(usize::MAX);
    let size = u32::try_from(batch.size(all)).unwrap_or(u32::MAX);
    let room = new.at_most.map_or(u32::MAX, |most| most.saturating_sub(new.count));
    let size = size.min(room).max(new.count.div_ceil(MAX_BATCHES)).max(1);
    let mut states = vec![(0, old)];
    let mut upto = 0_u32;
    while upto < new.count {
        upto = upto.saturating_add(size).min(new.count);
        let keep = u64::from(old) * u64::from(new.count - upto);
        let keep = keep.div_ceil(u64::from(new.count));
        states.push((upto, u32::try_from(keep).unwrap_or(old)));
    }
    states
}

fn batches(
    of_each: impl Iterator<Item = (u32, u32)>,
    states: &[(u32, u32)],
    of: u32,
    policy: &Policy,
) -> Batches {
    let beside = states.windows(2).map(|pair| pair[1].0.saturating_add(pair[0].1));
    let most = beside.max().unwrap_or(of);
    let ready_ms = u64::try_from(policy.judge.startup_timeout_ms).unwrap_or(60_000);
    let batch = |(upto, keep)| ReplicaBatch { upto, keep, most, ready_ms };
    Batches { batches: of_each.map(batch).collect(), of }
}

impl Builder<'_> {
    /// Replaces a service batch by batch; each proves itself before it ends anything.
    pub(super) fn replace_some(
        &mut self,
        out: &RollOut<'_>,
        service: &Service,
        host: &HostName,
        (batches, pause_ms): (&Batches, u64),
    ) {
        let what = (out.release, out.deployment, out.slot, out.restore);
        for (nth, batch) in batches.batches.iter().enumerate() {
            if nth > 0 && pause_ms > 0 {
                self.pause(out.slot, host, pause_ms);
            }
            self.start_some(service, host, what, (*batch, batches.of));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(batch: crate::model::Batch) -> Strategy {
        Strategy::Rolling { batch, pause_ms: 0 }
    }

    #[test]
    fn a_service_is_never_smaller_than_the_smaller_release() {
        use crate::model::Batch::{Count, Percent};
        for (old, new, at_most, batch, expected) in [
            (3, 3, None, Count(1), vec![(0, 3), (1, 2), (2, 1), (3, 0)]),
            (5, 5, None, Count(2), vec![(0, 5), (2, 3), (4, 1), (5, 0)]),
            (4, 4, None, Percent(50), vec![(0, 4), (2, 2), (4, 0)]),
            (1, 1, None, Count(3), vec![(0, 1), (1, 0)]),
            (5, 2, None, Count(1), vec![(0, 5), (1, 3), (2, 0)]),
            (2, 4, None, Count(2), vec![(0, 2), (2, 1), (4, 0)]),
            // Two want to begin together, and there is room for one.
            (3, 3, Some(4), Count(2), vec![(0, 3), (1, 2), (2, 1), (3, 0)]),
        ] {
            let replicas = Replicas { count: new, at_most };
            let states = states(old, replicas, &policy(batch));
            assert_eq!(states, expected, "{old} to {new} by {batch:?}");
            let fewest = states.iter().map(|(new, old)| new + old).min();
            assert!(fewest >= Some(old.min(new)), "{states:?}");
        }
        let many = Replicas { count: 1000, at_most: None };
        assert_eq!(states(1000, many, &policy(Count(1))).len(), 101);
    }
}
