//! What a planner is given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::step::{Live, Plan, Step};
use crate::ids::{
    DeploymentId, EnvironmentKey, HostName, OperationId, RollbackId, ServiceName, Slot,
};
use crate::model::environment::hosts_of;
use crate::model::{OperationKind, Policy, Release, Surface};
use crate::ports::{Capabilities, Running};

/// What a slot holds, as the ledger knows it and as it was observed.
#[derive(Debug, Clone)]
pub struct Side {
    /// The deployment.
    pub deployment: u64,
    /// The release.
    pub release: Arc<Release>,
    /// Observed over all of its services but the idle ones: `Yes` only if each runs.
    pub running: Running,
    /// The services that may run there.
    pub services: BTreeSet<ServiceName>,
    /// Where each of them may run; a service without an entry runs on this machine.
    pub hosts: BTreeMap<ServiceName, BTreeSet<HostName>>,
    /// Of these, beside ones with users: workers that were seen not to run.
    pub idle: BTreeSet<ServiceName>,
}

/// What is.
#[derive(Debug, Clone, Default)]
pub struct Situation {
    /// The live deployment.
    pub live: Option<Live>,
    /// The slots that hold something.
    pub slots: BTreeMap<Slot, Side>,
    /// Percent by slot, read from the router; `None` where there is no route.
    pub weights: Option<BTreeMap<Slot, u8>>,
}

impl Side {
    /// Where a service may run; empty if it does not.
    #[must_use]
    pub fn hosts_of(&self, service: &ServiceName) -> BTreeSet<HostName> {
        hosts_of(&self.services, &self.hosts, service)
    }

    /// Whether it can take users: all that serves may run, and was not seen down.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        let services = &self.release.content.services;
        let mut serving = services.values().filter(|service| service.traffic);
        self.running != Running::No && serving.all(|s| self.services.contains(&s.name))
    }
}

impl Situation {
    /// The live side, if it can take users.
    #[must_use]
    pub fn live_side(&self) -> Option<(&Live, &Side)> {
        let live = self.live.as_ref()?;
        let side = self.slots.get(&live.slot)?;
        (side.deployment == live.number && side.can_serve()).then_some((live, side))
    }

    /// Percent that a slot gets.
    #[must_use]
    pub fn weight(&self, slot: Slot) -> u8 {
        self.weights.as_ref().and_then(|weights| weights.get(&slot)).copied().unwrap_or(0)
    }

    /// The slot that users are on, and stay on until something new runs in the other one. Two with users are
    /// a rollout that was left half-way: the one that can serve, then the one that was there before.
    #[must_use]
    pub fn users_on(&self) -> Option<Slot> {
        let rank = |slot: &Slot| {
            let side = self.slots.get(slot);
            let age = std::cmp::Reverse(side.map(|side| side.deployment));
            (side.is_some_and(Side::can_serve), age)
        };
        let used = Slot::BOTH.into_iter().filter(|slot| self.weight(*slot) > 0).max_by_key(rank);
        used.or_else(|| self.live.as_ref().map(|live| live.slot))
    }
}

/// Who plans what, with which rules.
#[derive(Debug, Clone)]
pub struct PlanContext<'a> {
    /// New ids.
    pub operation: OperationId,
    /// New ids.
    pub deployment_id: DeploymentId,
    /// New ids.
    pub rollback_id: RollbackId,
    /// App and environment.
    pub key: EnvironmentKey,
    /// Number for the deployment that is made.
    pub number: u64,
    /// Rules.
    pub policy: &'a Policy,
    /// What the target can do.
    pub capabilities: Capabilities,
    /// Door.
    pub surface: Surface,
    /// Who.
    pub requested_by: String,
    /// Why.
    pub reason: Option<String>,
    /// `--force` or a person's confirmation.
    pub forced: bool,
    /// Lifted checks.
    pub overrides: Vec<String>,
    /// Time of planning.
    pub now: Timestamp,
}

/// The planner will not make a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal with advice.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

impl PlanContext<'_> {
    /// A plan of `kind` with nothing special, to be filled in by its planner.
    pub(super) fn plan(
        &self,
        kind: OperationKind,
        from: Option<Live>,
        slot: Slot,
        steps: Vec<Step>,
    ) -> Plan {
        Plan {
            format: super::PLAN_FORMAT,
            operation: self.operation.clone(),
            kind,
            key: self.key.clone(),
            deployment: Some(self.number),
            deployment_id: Some(self.deployment_id.clone()),
            rollback_id: None,
            release: None,
            version: None,
            services: Vec::new(),
            slot,
            from,
            left: None,
            reject_left: false,
            target_was_stable: false,
            rollback_type: None,
            trigger: None,
            surface: self.surface,
            requested_by: self.requested_by.clone(),
            reason: self.reason.clone(),
            forced: self.forced,
            overrides: self.overrides.clone(),
            evidence: Vec::new(),
            warnings: Vec::new(),
            work_timeout_ms: self.policy.deploy_timeout_ms,
            strategy: self.policy.strategy.as_str().to_owned(),
            automatic_rollback: self.policy.rollback.automatic,
            planned_at: self.now,
            live_at: None,
            steps,
        }
    }
}
