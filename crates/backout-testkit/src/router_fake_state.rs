//! What the fake router remembers, and its rules.

use std::collections::BTreeMap;
use std::time::Duration;

use backout_core::ids::{LedgerId, Slot};
use backout_core::ports::{
    AdapterError, DeadManFired, Marker, StepCx, Traffic, TrafficChange, Tripped,
};
use jiff::Timestamp;
use tokio::time::Instant;

pub(crate) struct State {
    pub ledger: LedgerId,
    pub traffic: Option<Traffic>,
    /// When the armed deadline runs out.
    pub deadline: Option<Instant>,
    pub ensured: u64,
    pub applied: Vec<TrafficChange>,
    pub violations: Vec<String>,
    pub epoch: u64,
    pub stable_is_healthy: bool,
    pub unreachable: bool,
    pub needs_dead_man: bool,
}

impl State {
    pub(crate) fn new(ledger: LedgerId) -> Self {
        Self {
            ledger,
            traffic: None,
            deadline: None,
            ensured: 0,
            applied: Vec::new(),
            violations: Vec::new(),
            epoch: 0,
            stable_is_healthy: true,
            unreachable: false,
            needs_dead_man: false,
        }
    }

    pub(crate) fn violation(&mut self, what: String) -> AdapterError {
        self.violations.push(what.clone());
        AdapterError::permanent(format!("failed by the rules of the fake: {what}"))
    }

    /// Lets a deadline that has run out act.
    pub(crate) fn settle(&mut self) {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.fire();
        }
    }

    /// What a router does when the watcher is gone.
    pub(crate) fn fire(&mut self) {
        self.deadline = None;
        let moved = self.stable_is_healthy;
        let Some(traffic) = &mut self.traffic else { return };
        let Some(dead_man) = traffic.dead_man.take() else { return };
        if moved {
            for (slot, weight) in &mut traffic.weights {
                *weight = if *slot == dead_man.stable { 100 } else { 0 };
            }
        }
        let reason = (!moved).then(|| "the stable side does not pass its check".to_owned());
        traffic.fired =
            Some(DeadManFired { at: Timestamp::now(), stable: dead_man.stable, moved, reason });
    }

    /// What a router does when the new side's errors are beyond doubt.
    pub(crate) fn trip(&mut self, evidence: &str) {
        let moved = self.stable_is_healthy;
        let Some(traffic) = &mut self.traffic else { return };
        let Some(trip) = traffic.trip.take() else { return };
        if moved {
            for (slot, weight) in &mut traffic.weights {
                *weight = if *slot == trip.stable { 100 } else { 0 };
            }
            traffic.dead_man = None;
            self.deadline = None;
        }
        let reason = (!moved).then(|| "the stable side does not pass its check".to_owned());
        let (at, evidence) = (Timestamp::now(), evidence.to_owned());
        traffic.tripped = Some(Tripped { at, stable: trip.stable, moved, evidence, reason });
    }

    pub(crate) fn reachable(&mut self) -> Result<(), AdapterError> {
        if self.unreachable {
            return Err(AdapterError::transient("failed to reach the router: refused"));
        }
        self.settle();
        Ok(())
    }

    pub(crate) fn fence(&mut self, epoch: u64) -> Result<(), AdapterError> {
        if epoch < self.epoch {
            return Err(AdapterError::permanent(format!(
                "failed: epoch {epoch} is older than {}",
                self.epoch
            )));
        }
        self.epoch = epoch;
        Ok(())
    }

    fn check(&mut self, change: &TrafficChange) -> Result<(), AdapterError> {
        let sum: u32 = change.weights.values().map(|w| u32::from(*w)).sum();
        if sum != 100 && sum != 0 {
            return Err(
                self.violation(format!("weights {:?} are neither 100 nor nothing", change.weights))
            );
        }
        if let Some(slot) = change.weights.keys().find(|slot| !change.sides.contains_key(slot)) {
            return Err(self.violation(format!("a weight for side {slot}, which is not described")));
        }
        if change.weights.keys().copied().collect::<Vec<_>>()
            != change.sides.keys().copied().collect::<Vec<_>>()
        {
            return Err(self.violation("a side without a weight".to_owned()));
        }
        if change.dead_man.is_some_and(|d| !change.sides.contains_key(&d.stable) || d.after_ms == 0)
        {
            return Err(self.violation("a deadline without its stable side, or at once".to_owned()));
        }
        let split = change.weights.values().any(|w| (1..100).contains(w));
        if change.trip.is_some_and(|trip| {
            !split || !change.sides.contains_key(&trip.stable) || trip.rule.false_trip_ppt == 0
        }) {
            return Err(self.violation("a trip without a split, or without a budget".to_owned()));
        }
        if self.needs_dead_man && split && change.dead_man.is_none() {
            return Err(self.violation("a split without a deadline".to_owned()));
        }
        Ok(())
    }

    /// Whether a change may be made at all.
    pub(crate) fn admit(
        &mut self,
        change: &TrafficChange,
        cx: &StepCx,
    ) -> Result<(), AdapterError> {
        self.reachable()?;
        self.fence(cx.epoch)?;
        self.check(change)?;
        if self.ensured == 0 {
            return Err(self.violation("traffic moved before `ensure`".to_owned()));
        }
        let fired = self.traffic.as_ref().is_some_and(|t| t.fired.is_some() || t.tripped.is_some());
        if fired && !change.acknowledge_fired {
            return Err(AdapterError::permanent(
                "failed to move traffic: a deadline ran out or a trip fired, and that was not adopted",
            ));
        }
        Ok(())
    }

    pub(crate) fn make(&mut self, change: &TrafficChange, cx: &StepCx) -> Traffic {
        self.applied.push(change.clone());
        self.deadline = change.dead_man.map(|d| Instant::now() + Duration::from_millis(d.after_ms));
        let traffic = Traffic {
            weights: change.weights.clone(),
            sides: change.sides.clone(),
            epoch: cx.epoch,
            listen: None,
            dead_man: change.dead_man,
            fired: None,
            trip: change.trip,
            tripped: None,
            unbound: None,
            marker: Some(Marker { ledger: self.ledger.clone() }),
        };
        self.traffic = Some(traffic.clone());
        traffic
    }

    pub(crate) fn weights(&self) -> BTreeMap<Slot, u8> {
        self.traffic.as_ref().map(|t| t.weights.clone()).unwrap_or_default()
    }
}
