//! The same test route by route: one bad endpoint of fifty vanishes in the average of all.
//!
//! Routes fall into a fixed number of slots by their hash; each slot has its own e-value, and their
//! mean is one too (a mean of supermartingales). A bad route thus pays for the slots, ln 32 nats,
//! and is still found long before it would show in the sum.

use super::mixture::Mixture;
use super::schedule::{Begun, Schedule};
use super::sessions::scramble;
use crate::event::Arm;
use crate::mutants::{self, Mutant};

const SLOTS: usize = 32;
const RISKS: [f64; 4] = [3.0, 10.0, 50.0, 500.0];
const ODDS: [f64; 4] = [3.0, 10.0, 50.0, 500.0];
/// A route that fails a little more shows in the sum too.
const PRIOR: [f64; 4] = [0.1, 0.3, 0.4, 0.2];

#[derive(Debug, Clone)]
struct Slot {
    against_baseline: Mixture<4>,
    against_harmless: Option<Mixture<4>>,
    begun: Begun,
    counts: [(u64, u64); 2],
}

/// All slots.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    slots: Vec<Slot>,
}

impl Routes {
    pub fn new(harmless: f64) -> Self {
        let against_harmless = (harmless > 0.0 && harmless < 1.0).then(|| {
            let mut mixture = Mixture::new(&PRIOR);
            mixture.set_rate(&ODDS, harmless);
            mixture
        });
        let slot = Slot {
            against_baseline: Mixture::new(&PRIOR),
            against_harmless,
            begun: Begun::default(),
            counts: Default::default(),
        };
        Routes { slots: vec![slot; SLOTS] }
    }

    pub fn set_share(&mut self, share: f64) {
        for slot in &mut self.slots {
            slot.against_baseline.set_share(&RISKS, share, 1.0);
        }
    }

    pub fn record(
        &mut self,
        route: u64,
        arm: Arm,
        (ok, failed): (u64, u64),
        schedule: &Schedule,
        elapsed_ms: i64,
    ) {
        if mutants::is(Mutant::RoutesUnseen) {
            return;
        }
        let slot = &mut self.slots[scramble(route) as usize % SLOTS];
        let mass = slot.begun.advance(schedule, elapsed_ms);
        slot.against_baseline.start(mass, &PRIOR);
        let counts = &mut slot.counts[arm.index()];
        counts.0 = counts.0.saturating_add(ok).saturating_add(failed);
        counts.1 = counts.1.saturating_add(failed);
        match arm {
            Arm::Canary => slot.against_baseline.record(failed, 0),
            Arm::Baseline => slot.against_baseline.record(0, failed),
        }
        if let Some(mixture) = &mut slot.against_harmless {
            mixture.start(mass, &PRIOR);
            if arm == Arm::Canary {
                mixture.record(failed, ok);
            }
        }
    }

    /// The mean over slots.
    pub fn value(&self, from_start: f64) -> f64 {
        self.slots.iter().map(|slot| slot.value(from_start)).sum::<f64>() / SLOTS as f64
    }

    /// Total and failed requests of canary and baseline in the slot that speaks most.
    pub fn strongest(&self, from_start: f64) -> [(u64, u64); 2] {
        let by_value = |a: &&Slot, b: &&Slot| a.value(from_start).total_cmp(&b.value(from_start));
        self.slots.iter().max_by(by_value).map_or_else(Default::default, |slot| slot.counts)
    }
}

impl Slot {
    fn value(&self, from_start: f64) -> f64 {
        let against_baseline = self.against_baseline.value(from_start);
        self.against_harmless
            .as_ref()
            .map_or(against_baseline, |mixture| against_baseline.min(mixture.value(from_start)))
    }
}
