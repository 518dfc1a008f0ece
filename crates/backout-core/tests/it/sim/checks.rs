//! What must hold after every entry, and where every run must end.

use backout_core::ids::{HostName, ServiceName};
use backout_core::model::{DeploymentStatus, OperationKind, RequestKind, RollbackStatus, Trigger};
use backout_core::plan::Nature;
use backout_core::ports::ErrorClass;
use backout_core::saga::{Ending, EntryKind, Failure, State, StepPhase, backoff_ms};

use super::ledger::Op;
use super::run::{End, Sim};
use super::world::Place;
use crate::fixtures::Routing;

impl Sim {
    /// What must hold after every entry.
    pub(super) fn check_entry(&mut self, op: &Op) -> Result<(), String> {
        if let Some(violation) = self.world.violations.first() {
            return Err(violation.clone());
        }
        for (step, state) in op.plan.steps.iter().zip(&op.state.steps) {
            if state.counted_attempts > step.max_attempts {
                return Err(format!("try {} of {}", state.counted_attempts, step.key));
            }
        }
        if let Some((key, times)) =
            self.world.applied.iter().find(|(_, times)| **times > 1 + self.excuses)
        {
            return Err(format!("{key} happened {times} times"));
        }
        for ((slot, service, host), release) in &self.world.units {
            let record = op.rows.environment.slots.get(slot);
            if !record.is_some_and(|record| record.hosts_of(service).contains(host)) {
                let words = format!("{service}@{host} of {release} runs in {slot}");
                return Err(format!("{words}, and nobody knows"));
            }
        }
        self.check_live(op)?;
        self.check_slots(op)?;
        self.check_try(op)
    }

    /// Where nothing goes wrong, the slots hold after each step exactly what runs.
    fn check_slots(&self, op: &Op) -> Result<(), String> {
        let done = matches!(op.entries.last().unwrap().kind, EntryKind::StepDone { .. });
        // Of those that are done at the same time some are on their way.
        let under_way = op.state.steps.iter().any(|step| step.phase == StepPhase::Running);
        if !done || !self.exact || under_way {
            return Ok(());
        }
        let slots = &op.rows.environment.slots;
        let mut known: Vec<Place> = Vec::new();
        for (slot, record) in slots {
            for service in &record.services {
                let hosts = record.hosts_of(service).into_iter();
                known.extend(hosts.map(|host| (*slot, service.clone(), host)));
            }
        }
        let runs: Vec<Place> = self.world.units.keys().cloned().collect();
        if known == runs { Ok(()) } else { Err(format!("the slots hold {known:?}, {runs:?} run")) }
    }

    fn check_live(&self, op: &Op) -> Result<(), String> {
        let switched = op.plan.live_at.is_some_and(|i| op.state.steps[i].phase == StepPhase::Done);
        let live = op.rows.environment.live;
        let wanted = if switched { op.plan.deployment } else { op.live_before };
        if op.state.ended.is_none() && live != wanted {
            return Err(format!("live is {live:?}, and should be {wanted:?}"));
        }
        Ok(())
    }

    /// A try waits for its backoff, and none follows a refusal.
    fn check_try(&mut self, op: &Op) -> Result<(), String> {
        let last = op.entries.last().unwrap();
        let step = match &last.kind {
            EntryKind::Requested { kind: RequestKind::Retry, .. } => {
                self.refused.clear();
                return Ok(());
            }
            EntryKind::Failing { failure } => return self.check_pivot(op, failure),
            EntryKind::StepStarted { step, .. } => *step,
            _ => return Ok(()),
        };
        if op.state.yield_to.is_some() {
            return Err("a step is begun although somebody was promised the lease".to_owned());
        }
        let key = op.plan.effect_key(&op.plan.steps[step]);
        if self.refused.contains(&key) {
            return Err(format!("{key} is tried again although it was refused"));
        }
        let before = op.entries.iter().rev().nth(1);
        let Some(EntryKind::StepFailed { class: ErrorClass::Transient, .. }) =
            before.map(|entry| &entry.kind)
        else {
            return Ok(());
        };
        let waited_ms = last.at.as_millisecond() - before.unwrap().at.as_millisecond();
        let wanted_ms = backoff_ms(op.state.steps[step].counted_attempts - 1);
        if waited_ms < i64::try_from(wanted_ms).unwrap() {
            return Err(format!("{key} is tried again after {waited_ms} ms"));
        }
        Ok(())
    }

    /// After the pivot there is only forward, but for people and what the router did.
    fn check_pivot(&self, op: &Op, failure: &Failure) -> Result<(), String> {
        let mut steps = op.plan.steps.iter().zip(&op.state.steps);
        let past = steps.any(|(step, state)| step.nature == Nature::Pivot && state.is_finished());
        if past && failure.trigger != Trigger::Manual && !failure.by_router {
            return Err(format!("goes back after the pivot: {:?}", failure.evidence));
        }
        Ok(())
    }

    /// Its intent must be durable before an effect begins.
    pub(super) fn check_intent(&mut self, op: &Op, step: usize) {
        let durable = self.store.journals.get(&op.plan.operation);
        let tries = op.state.steps[step].attempts;
        let intended = durable.is_some_and(|entries| {
            entries.iter().any(|entry| {
                matches!(&entry.kind, EntryKind::StepStarted { step: s, attempt }
                    if *s == step && *attempt == tries)
            })
        });
        if !intended {
            let key = &op.plan.steps[step].key;
            self.world.violations.push(format!("{key} happens before its intent is durable"));
        }
    }

    /// Where every run must end. `may_be_stuck`: something was refused for good, or never stopped failing.
    pub fn check_end(&self, end: &End, may_be_stuck: bool) -> Result<(), String> {
        if let Some(violation) = self.world.violations.first() {
            return Err(violation.clone());
        }
        match end {
            End::Yielded(_) => return Err("nobody took what was yielded".to_owned()),
            End::Stuck(reason) if may_be_stuck => {
                return if self.store.open.is_some() {
                    Ok(())
                } else {
                    Err(format!("stuck, but closed: {reason}"))
                };
            }
            End::Stuck(reason) => return Err(format!("stuck for nothing: {reason}")),
            End::Over(_) if self.store.open.is_some() => {
                return Err("over, but still open".to_owned());
            }
            End::Over(_) => {}
        }
        self.check_journals()?;
        self.check_owed()?;
        self.check_rows()?;
        self.check_users(end)
    }

    /// Each journal ends once, and no plan is left open.
    fn check_journals(&self) -> Result<(), String> {
        for plan in &self.store.plans {
            let entries = &self.store.journals[&plan.operation];
            let ends = entries.iter().filter(|e| matches!(e.kind, EntryKind::Ended { .. })).count();
            if ends != 1 {
                return Err(format!("{} ended {ends} times", plan.operation));
            }
        }
        Ok(())
    }

    fn check_rows(&self) -> Result<(), String> {
        for row in self.store.deployments.values() {
            let open = matches!(
                row.status,
                DeploymentStatus::Pending | DeploymentStatus::InProgress | DeploymentStatus::Stuck
            );
            if open {
                return Err(format!("{} is {} after the end", row.label(), row.status));
            }
        }
        for row in self.store.rollbacks.values() {
            let over = matches!(row.status, RollbackStatus::Completed | RollbackStatus::Failed);
            if !over || row.completed_at.is_none() {
                return Err(format!("rollback to #{} is {:?}", row.deployment_to, row.status));
            }
        }
        Ok(())
    }

    /// What runs is what the ledger says is live, whole, and nothing else.
    fn check_users(&self, end: &End) -> Result<(), String> {
        let last = self.store.plans.last().unwrap();
        let live = self.live_row();
        let resolved = matches!(end, End::Over(Ending::Resolved { .. }));
        if resolved {
            return Ok(());
        }
        let unhealthy =
            matches!(end, End::Over(Ending::Done { healthy: false } | Ending::FailedLive { .. }));
        let down =
            last.kind == OperationKind::Down && matches!(end, End::Over(Ending::Done { .. }));
        let shown = |units: Vec<Place>| {
            units.iter().map(|(slot, name, on)| format!("{name}@{on}#{slot}")).collect::<Vec<_>>()
        };
        if down || live.is_none() {
            if !self.world.units.is_empty() {
                let units = shown(self.world.units.keys().cloned().collect());
                return Err(format!("nothing is live, and {units:?} run"));
            }
            return Ok(());
        }
        let live = live.unwrap();
        let changed = !matches!(end, End::Over(Ending::NothingChanged { .. }));
        let release = self.world.release(&live.release);
        let hosts = self.setup.host_names();
        let on = |name: &ServiceName| {
            let place = |host: &HostName| (live.slot, name.clone(), host.clone());
            hosts.iter().map(place).collect::<Vec<_>>()
        };
        let wanted: Vec<Place> = release.content.services.keys().flat_map(on).collect();
        let runs: Vec<Place> = self.world.units.keys().cloned().collect();
        let right = self.world.units.values().all(|id| *id == live.release);
        if changed && !unhealthy && (runs != wanted || !right) {
            let (runs, wanted) = (shown(runs), shown(wanted));
            return Err(format!("{runs:?} run, live is {} as {wanted:?}", live.version));
        }
        if changed && !unhealthy && self.world.bad.contains(&live.release) {
            return Err(format!("users are on {}, which fails", live.version));
        }
        let routed = self.setup.routing != Routing::None && changed;
        if routed && self.world.weight(live.slot) != 100 && !unhealthy {
            return Err(format!("live in {}, users at {:?}", live.slot, self.world.route));
        }
        Ok(())
    }

    /// Remembers one step of the state machine, for its diagram.
    pub(super) fn remember(&mut self, op: &Op, before: &State) {
        let entry = match &op.entries.last().unwrap().kind {
            EntryKind::Claimed { .. } => "claimed",
            EntryKind::StepStarted { .. } => "step_started",
            EntryKind::StepDone { adopted: true, .. } => "step_done (adopted)",
            EntryKind::StepDone { .. } => "step_done",
            EntryKind::StepFailed { class, .. } => match class {
                ErrorClass::Transient => "step_failed (transient)",
                ErrorClass::Permanent => "step_failed (permanent)",
                ErrorClass::Unknown => "step_failed (unknown)",
            },
            EntryKind::StepNotApplied { .. } => "step_not_applied",
            EntryKind::StepSkipped { .. } => "step_skipped",
            EntryKind::Failing { .. } => "failing",
            EntryKind::Requested { kind, .. } => match kind {
                RequestKind::TakeOver | RequestKind::Supersede => "requested (yield)",
                RequestKind::Retry => "requested (retry)",
                _ => "requested (other)",
            },
            EntryKind::Stuck { .. } => "stuck",
            EntryKind::TrafficSafe | EntryKind::Warning { .. } => return,
            EntryKind::Ended { .. } => "ended",
        };
        let seen = (label(op, before), entry.to_owned(), label(op, &op.state));
        self.seen.insert(seen);
    }
}

/// A state's name in the diagram.
pub fn label(op: &Op, state: &State) -> String {
    let text = match &state.ended {
        Some(Ending::Done { .. }) => "done",
        Some(Ending::NothingChanged { .. }) => "nothing_changed",
        Some(Ending::FailedLive { .. }) => "failed_live",
        Some(Ending::TakenBack { .. }) => "taken_back",
        Some(Ending::Superseded { .. }) => "superseded",
        Some(Ending::Resolved { .. }) => "resolved",
        None if state.yield_to.is_some() => "yielding",
        None if state.failing.is_some() && op.plan.can_be_taken_back() => "going_back",
        None if state.stuck.is_some() => "stuck",
        None => match state.current().map(|step| state.steps[step].phase) {
            None => "all_steps_finished",
            Some(StepPhase::Running) => "running",
            Some(StepPhase::Unknown) => "unknown",
            Some(StepPhase::Failed) => "failed",
            Some(StepPhase::Refused) => "refused",
            Some(StepPhase::Pending | StepPhase::Done | StepPhase::Skipped) => "next_step",
        },
    };
    text.to_owned()
}
