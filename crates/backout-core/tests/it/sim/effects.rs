//! Actions as effects on the world, and whether their postcondition holds: as the engine has it.

use backout_core::ids::Slot;
use backout_core::model::{OperationKind, RouterPolicy};
use backout_core::plan::{Action, TrafficStep};
use backout_core::ports::ErrorClass;

use super::ledger::Op;
use super::run::Sim;
use super::script::Mutant;

/// Why an effect did not happen.
pub type Refused = (ErrorClass, String);

impl Sim {
    /// Makes the effect of an action, unless something is in the way.
    pub(super) fn apply(&mut self, op: &Op, step: usize) -> Result<(), Refused> {
        let action = &op.plan.steps[step].action;
        match action {
            Action::Start { service, host, slot, release, batch: Some(batch), restore, .. } => {
                let place = (*slot, service.clone(), host.clone());
                self.world.start_some(&place, release, *batch, *restore)?;
            }
            Action::Start { service, host, slot, release, .. } => {
                self.world.start((*slot, service.clone(), host.clone()), release);
            }
            Action::Stop { service, host, slot, .. } => {
                self.world.stop(&(*slot, service.clone(), host.clone()));
            }
            Action::SetTraffic(traffic) => self.set_traffic(op, traffic)?,
            Action::RemoveRoute => {
                self.world.route = None;
                (self.world.dead_man, self.world.trip) = (None, None);
                (self.world.fired, self.world.tripped) = (None, None);
            }
            Action::RestoreConfig { release } => self.world.config = release.clone(),
            Action::Snapshot
            | Action::PinArtifacts { .. }
            | Action::EnsureRouter
            | Action::Drain { .. }
            | Action::Confirm { .. }
            | Action::Prune
            | Action::KeepEvidence { .. }
            | Action::Rehearse { .. }
            | Action::LetGo { .. }
            | Action::Watch { .. } => {}
        }
        let key = op.plan.effect_key(&op.plan.steps[step]);
        *self.world.applied.entry(key).or_default() += 1;
        Ok(())
    }

    fn set_traffic(&mut self, op: &Op, traffic: &TrafficStep) -> Result<(), Refused> {
        let gaining = if traffic.percent == 0 { traffic.rest } else { Some(traffic.side) };
        let gated = traffic.gate && self.mutant != Some(Mutant::NoGate);
        if let (true, Some(slot)) = (gated, gaining) {
            self.require_healthy(op, slot)?;
        }
        let sides = [(traffic.side, traffic.percent)];
        let rest = traffic.rest.map(|rest| (rest, 100 - traffic.percent));
        for (slot, _) in sides.into_iter().chain(rest).filter(|(_, weight)| *weight > 0) {
            let Some(record) = op.rows.environment.slots.get(&slot) else {
                return Err((ErrorClass::Permanent, format!("slot {slot} holds nothing")));
            };
            let addressable = self.setup.capabilities().addressable;
            if addressable && !self.world.runs(slot, &record.release, true) {
                return Err((ErrorClass::Transient, format!("slot {slot} has no address")));
            }
        }
        let acted = self.world.fired.is_some() || self.world.tripped.is_some();
        if acted && op.plan.kind == OperationKind::Deploy {
            return Err((ErrorClass::Permanent, "the router acted by itself".to_owned()));
        }
        let armed = matches!(self.policy.router, RouterPolicy::Builtin { .. });
        self.world.set_traffic(traffic, armed);
        Ok(())
    }

    /// The check before a traffic move.
    pub(super) fn require_healthy(&self, op: &Op, slot: Slot) -> Result<(), Refused> {
        let Some(record) = op.rows.environment.slots.get(&slot) else {
            return Err((ErrorClass::Permanent, format!("slot {slot} holds nothing")));
        };
        let runs = self.world.runs(slot, &record.release, true);
        if runs && !self.world.bad.contains(&record.release) {
            return Ok(());
        }
        Err((ErrorClass::Transient, format!("slot {slot} does not pass its checks")))
    }

    /// Whether the postcondition of a step is seen.
    pub(super) fn holds(&self, op: &Op, step: usize) -> bool {
        match &op.plan.steps[step].action {
            Action::Start { batch: Some(_), .. } => false,
            Action::Start { service, host, slot, release, .. } => {
                let unit = self.world.units.get(&(*slot, service.clone(), host.clone()));
                self.world.tells && unit == Some(release)
            }
            Action::Stop { service, host, slot, .. } => {
                let place = (*slot, service.clone(), host.clone());
                self.world.tells && !self.world.units.contains_key(&place)
            }
            Action::SetTraffic(traffic) => {
                let rest = match traffic.rest {
                    Some(rest) => self.world.weight(rest) == 100 - traffic.percent,
                    None => self.world.weight(traffic.side.other()) == 0,
                };
                let builtin = matches!(self.policy.router, RouterPolicy::Builtin { .. });
                let guarded = !traffic.dead_man || !builtin || self.world.dead_man.is_some();
                let tripwire = traffic.trip.is_none() || !builtin || self.world.trip.is_some();
                let acted = self.world.fired.is_some() || self.world.tripped.is_some();
                self.world.route.is_some()
                    && self.world.weight(traffic.side) == traffic.percent
                    && rest
                    && guarded
                    && tripwire
                    && !acted
            }
            Action::RemoveRoute => self.world.route.is_none(),
            Action::RestoreConfig { release } => self.world.config == *release,
            Action::Snapshot
            | Action::PinArtifacts { .. }
            | Action::EnsureRouter
            | Action::Drain { .. }
            | Action::Confirm { .. }
            | Action::Prune
            | Action::KeepEvidence { .. }
            | Action::Rehearse { .. }
            | Action::LetGo { .. }
            | Action::Watch { .. } => false,
        }
    }
}
