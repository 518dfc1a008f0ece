//! What the ledger knows of one environment.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::drill::DrillRecord;
use super::words::Health;
use crate::ids::{EnvironmentKey, HostName, ReleaseId, ServiceName, Slot, Version};
use crate::ports::Running;

/// How far the content of a slot is, as far as the ledger knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Start was intended; it may run.
    Starting,
    /// Start was observed.
    Running,
    /// Stop was intended; it may still run.
    Stopping,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// The deployment that put it there.
    pub deployment: u64,
    /// The release.
    pub release: ReleaseId,
    /// Its label.
    pub version: Version,
    /// How far.
    pub state: SlotState,
    /// The services that may run there.
    #[serde(default)]
    pub services: BTreeSet<ServiceName>,
    /// Where each of them may run; a service without an entry runs on this machine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<ServiceName, BTreeSet<HostName>>,
}

impl SlotRecord {
    /// Where a service may run; empty if it does not.
    #[must_use]
    pub fn hosts_of(&self, service: &ServiceName) -> BTreeSet<HostName> {
        hosts_of(&self.services, &self.hosts, service)
    }

    /// From now on it may run there.
    pub fn place(&mut self, service: &ServiceName, host: &HostName) {
        let mut hosts = self.hosts_of(service);
        hosts.insert(host.clone());
        self.services.insert(service.clone());
        self.set_hosts(service, hosts);
    }

    /// It does not run there any more.
    pub fn clear(&mut self, service: &ServiceName, host: &HostName) {
        let mut hosts = self.hosts_of(service);
        hosts.remove(host);
        if hosts.is_empty() {
            self.services.remove(service);
        }
        self.set_hosts(service, hosts);
    }

    fn set_hosts(&mut self, service: &ServiceName, hosts: BTreeSet<HostName>) {
        if hosts.iter().all(HostName::is_local) {
            self.hosts.remove(service);
        } else {
            self.hosts.insert(service.clone(), hosts);
        }
    }

    /// What to make of an observation of the slot: where it can't be told whether anything runs, a start
    /// or stop that was cut off is not taken for something that runs.
    #[must_use]
    pub fn believed(&self, seen: Running) -> Running {
        match seen {
            Running::Unknown if self.state != SlotState::Running => Running::No,
            seen => seen,
        }
    }
}

/// Where a service may run, given which ones may run at all and those with an entry of their own.
pub(crate) fn hosts_of(
    services: &BTreeSet<ServiceName>,
    hosts: &BTreeMap<ServiceName, BTreeSet<HostName>>,
    service: &ServiceName,
) -> BTreeSet<HostName> {
    match hosts.get(service) {
        Some(hosts) => hosts.clone(),
        None if services.contains(service) => BTreeSet::from([HostName::local()]),
        None => BTreeSet::new(),
    }
}

/// One check of a list (rollback readiness, safety checks, doctor).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessCheck {
    /// Its name, such as `artifact_available`.
    pub name: String,
    /// Result.
    pub status: Severity,
    /// Why, for people.
    pub message: String,
}

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Proven.
    Pass,
    /// Works, but.
    Warning,
    /// Refuses.
    Error,
}

impl Severity {
    /// `pass`, `warning` or `error`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Pass => "pass",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// Rollback readiness of what is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessReport {
    /// The deployment a bare rollback would go back to.
    pub deployment: u64,
    /// Its version.
    pub version: Version,
    /// No check is an error.
    pub ready: bool,
    /// When it was proven.
    pub checked_at: Timestamp,
    /// The items.
    pub checks: Vec<ReadinessCheck>,
    /// Time to restore that may be expected, milliseconds.
    pub expected_ms: Option<u64>,
    /// What there was before the ledger, and how it was found. No deployment had it: `deployment` is the number that it
    /// would get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// Last health seen of what is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveHealth {
    /// Overall.
    pub overall: Health,
    /// By service.
    pub services: BTreeMap<String, Health>,
    /// By `service@host`, where it runs on other hosts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, Health>,
    /// When.
    pub checked_at: Timestamp,
    /// Two intervals of the slowest check, milliseconds: older than this it is `unknown`.
    pub fresh_for_ms: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands in a reference
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The row of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRecord {
    /// App and environment.
    pub key: EnvironmentKey,
    /// Number of the live deployment.
    pub live: Option<u64>,
    /// Number for the next deployment; `adopt` makes 0, the first deploy 1.
    pub next_number: u64,
    /// What the slots hold.
    pub slots: BTreeMap<Slot, SlotRecord>,
    /// Folder of `backout.yaml` at the last operation.
    pub folder: Option<String>,
    /// Whether `router.builtin` has a route of ours.
    #[serde(default)]
    pub routed: bool,
    /// Deployments before this number are of a time that was ended by an eject.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub begins_at: u64,
    /// The last drill of each release, the newest [`DRILLS_MAX`](super::DRILLS_MAX).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drills: BTreeMap<ReleaseId, DrillRecord>,
    /// Where scripts have printed a version when they were adopted, so that their silence can be believed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scripts_spoken: BTreeMap<ServiceName, BTreeSet<HostName>>,
}

impl EnvironmentRecord {
    /// An environment that nothing has happened in.
    #[must_use]
    pub fn new(key: EnvironmentKey) -> Self {
        Self {
            key,
            live: None,
            next_number: 1,
            slots: BTreeMap::new(),
            folder: None,
            routed: false,
            begins_at: 0,
            drills: BTreeMap::new(),
            scripts_spoken: BTreeMap::new(),
        }
    }

    /// The slot that holds a deployment.
    #[must_use]
    pub fn slot_of(&self, deployment: u64) -> Option<Slot> {
        self.slots.iter().find(|(_, record)| record.deployment == deployment).map(|(slot, _)| *slot)
    }
}
