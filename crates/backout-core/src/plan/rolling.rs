//! Where services start on hosts in place: on all of them together, or some at a time.

use std::collections::BTreeMap;

use super::builder::Builder;
use super::scale::Batches;
use super::situation::Situation;
use super::step::{Action, RevertStep, WatchMode};
use crate::ids::{HostName, ReleaseId, ServiceName, Slot};
use crate::model::{HostsPolicy, Policy, Release, Service, Strategy};

/// A start on hosts, and what proves it.
pub(super) struct RollOut<'a> {
    pub release: &'a Release,
    pub deployment: u64,
    pub slot: Slot,
    /// Going back.
    pub restore: bool,
    /// What hosts go back to by themselves if they do not hear in time that it is good; none: they stay.
    pub revert: Option<RevertStep>,
    /// Passes in a row that a batch needs before the next one.
    pub passes: u32,
    /// Services of which some instances are replaced at a time.
    pub some: BTreeMap<ServiceName, Batches>,
}

/// The batches of a rolling release, in order; all hosts together where it is not rolling.
pub(super) fn batches(policy: &Policy) -> Vec<Vec<HostName>> {
    let hosts = &policy.hosts.names;
    let size = match policy.strategy {
        Strategy::Rolling { batch, .. } => batch.size(hosts.len()),
        _ => hosts.len().max(1),
    };
    hosts.chunks(size).map(<[HostName]>::to_vec).collect()
}

fn pause_ms(policy: &Policy) -> u64 {
    match policy.strategy {
        Strategy::Rolling { pause_ms, .. } => pause_ms,
        _ => 0,
    }
}

/// What remote hosts do by themselves where a deploy is not confirmed in time.
pub(super) fn revert(hosts: &HostsPolicy, back_to: Option<&ReleaseId>) -> Option<RevertStep> {
    hosts.confirm_ms.map(|within_ms| RevertStep { back_to: back_to.cloned(), within_ms })
}

impl Builder<'_> {
    /// Starts `services` batch by batch; between two batches what was started so far must pass.
    pub(super) fn roll_out(
        &mut self,
        out: &RollOut<'_>,
        batches: &[Vec<HostName>],
        services: &[&Service],
        policy: &Policy,
    ) {
        let mut begun: Vec<HostName> = Vec::new();
        for (nth, batch) in batches.iter().enumerate() {
            for service in services {
                match (out.some.get(&service.name), batch.as_slice()) {
                    (Some(some), [host]) => {
                        self.replace_some(out, service, host, (some, pause_ms(policy)));
                    }
                    _ => self.start_in_batch(out, batch, service),
                }
            }
            begun.extend(batch.iter().cloned());
            if nth + 1 < batches.len() {
                let mode = WatchMode::Ready { passes: out.passes, hold_ms: pause_ms(policy) };
                self.watch_hosts("await_batch", mode, (out.slot, None), &begun);
                self.confirm(out, batch, services);
            }
        }
    }

    /// What [`Builder::roll_out`] leaves to be confirmed once all of it is ready: the last batch.
    pub(super) fn confirm_last(
        &mut self,
        out: &RollOut<'_>,
        batches: &[Vec<HostName>],
        services: &[&Service],
    ) {
        if let Some(last) = batches.last() {
            self.confirm(out, last, services);
        }
    }

    fn start_in_batch(&mut self, out: &RollOut<'_>, batch: &[HostName], service: &Service) {
        let what = (out.release, out.deployment, out.slot, out.restore);
        self.on_each(batch, |b, host| {
            // This machine is where the one who confirms sits.
            let revert = out.revert.clone().filter(|_| !host.is_local());
            b.start_on(service, host, what, revert);
        });
    }

    /// Tells the hosts that what was started there is good.
    fn confirm(&mut self, out: &RollOut<'_>, hosts: &[HostName], services: &[&Service]) {
        let Some(revert) = &out.revert else { return };
        let remote: Vec<HostName> = hosts.iter().filter(|host| !host.is_local()).cloned().collect();
        let within_s = revert.within_ms / 1000;
        for service in services {
            self.on_each(&remote, |b, host| {
                let action = Action::Confirm {
                    service: service.name.clone(),
                    host: host.clone(),
                    slot: out.slot,
                    release: out.release.id.clone(),
                    deployment: out.deployment,
                };
                let words = (
                    format!("{host} goes back {within_s} s after the start"),
                    "it stays".to_owned(),
                );
                b.confirm_on(service, host, words, action);
            });
        }
    }

    /// Ends what the release does not have, and what stands on hosts that are not used any more.
    pub(super) fn leave_behind(
        &mut self,
        situation: &Situation,
        slot: Slot,
        stays: impl Fn(&ServiceName) -> bool,
    ) {
        let Some(side) = situation.slots.get(&slot) else { return };
        self.stop_side(side, slot, |name| !stays(name));
        self.leave_other_hosts(side, slot, stays);
    }
}

/// The hosts of a way back in reversed batches, without those where nothing was begun.
pub(super) fn way_back(
    policy: &Policy,
    untouched: &dyn Fn(&HostName) -> bool,
) -> Vec<Vec<HostName>> {
    let mut back: Vec<Vec<HostName>> = batches(policy)
        .into_iter()
        .rev()
        .map(|batch| batch.into_iter().rev().filter(|host| !untouched(host)).collect())
        .filter(|batch: &Vec<HostName>| !batch.is_empty())
        .collect();
    if back.is_empty() {
        back = batches(policy);
    }
    back
}
