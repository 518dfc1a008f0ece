//! The test behind an armed trip: the judge's own comparison of errors, on the proxy's own counters.

use std::sync::Arc;

use backout_core::model::TripRule;
use backout_judge::{
    Arm, Budget, Settings,
    sequential::{Alarm, Comparison},
};

use super::{persist::StoredTrip, route::Table, stats::Counters, validate::TRILLION};
use crate::wire::{SideName, TripArm};

/// The judge takes no smaller budget than this.
const LEAST: f64 = 1e-9;

/// The part of the budget that the test of this number (from 1) may spend; none where too little is left.
fn budget(arm: &TripArm, number: u32) -> Option<f64> {
    let budget = fraction(arm.false_trip_ppt) * TripRule::part_of_test(number);
    (budget >= LEAST).then_some(budget)
}

fn fraction(ppt: u64) -> f64 {
    ppt as f64 / TRILLION as f64
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn settings(arm: &TripArm, budget: f64) -> Settings {
    Settings {
        false_rollback_probability: budget,
        harmless_error_rate: fraction(arm.harmless_ppt),
        harmless_error_increase: fraction(arm.tolerance_ppt),
        warm_up_ms: signed(arm.warm_up_ms),
        watch_ms: signed(arm.watch_ms),
        compare_errors: true,
        compare_latency: false,
        budget: Budget {
            errors: 1.0,
            from_start: fraction(arm.from_start_ppt),
            routes: 0.0,
            history: 0.0,
        },
        ..Settings::default()
    }
}

/// The counters of one side, and what was taken in of them.
struct Seen {
    arm: Arm,
    counters: Arc<Counters>,
    trials: u64,
    failed: u64,
}

impl Seen {
    fn new(arm: Arm, counters: Arc<Counters>) -> Self {
        let (trials, failed) = counters.trials();
        Self { arm, counters, trials, failed }
    }

    fn take_in(&mut self, comparison: &mut Comparison, now_ms: i64) {
        let (trials, failed) = self.counters.trials();
        let new_failed = failed.saturating_sub(self.failed);
        let new = trials.saturating_sub(self.trials);
        (self.trials, self.failed) = (trials, failed);
        if new > 0 || new_failed > 0 {
            let ok = new.saturating_sub(new_failed);
            comparison.requests(now_ms, self.arm, ok, new_failed, &[]);
        }
    }
}

/// A running test.
pub(crate) struct Trial {
    /// Differs between any two tests of this process.
    pub(crate) id: u64,
    comparison: Comparison,
    sides: [Seen; 2],
}

impl Trial {
    /// Begins with nothing seen; none where nothing is left to spend, or a side is missing.
    pub(crate) fn new(id: u64, trip: &StoredTrip, number: u32, table: &Table) -> Option<Self> {
        let stable = trip.arm.stable;
        let counters =
            |side: SideName| table.sides[side.index()].as_ref().map(|side| side.counters.clone());
        let mut trial = Self {
            id,
            comparison: Comparison::new(&settings(&trip.arm, budget(&trip.arm, number)?)),
            sides: [
                Seen::new(Arm::Baseline, counters(stable)?),
                Seen::new(Arm::Canary, counters(stable.other())?),
            ],
        };
        trial.weigh(stable, table);
        Some(trial)
    }

    /// From now on the table's weights are in force.
    pub(crate) fn weigh(&mut self, stable: SideName, table: &Table) {
        self.comparison.weight(f64::from(table.percents[stable.other().index()]) / 100.0);
    }

    /// Takes in what was counted since the last look; an alarm stays.
    pub(crate) fn look(&mut self, now_ms: i64) -> Option<Alarm> {
        for side in &mut self.sides {
            side.take_in(&mut self.comparison, now_ms);
        }
        self.comparison.settle().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(false_trip: f64) -> TripArm {
        TripArm {
            stable: SideName::A,
            false_trip_ppt: (false_trip * TRILLION as f64) as u64,
            harmless_ppt: 0,
            tolerance_ppt: 0,
            from_start_ppt: TRILLION,
            warm_up_ms: 0,
            watch_ms: 60_000,
        }
    }

    #[test]
    fn all_tests_of_a_deployment_together_spend_no_more_than_there_is() {
        for false_trip in [0.4, 0.004, 1e-6] {
            let spent: f64 = (1..100).filter_map(|number| budget(&arm(false_trip), number)).sum();
            assert!(spent <= false_trip && spent >= 0.95 * false_trip, "{spent} of {false_trip}");
        }
        assert_eq!(budget(&arm(1e-9), 1), None);
        assert_eq!(budget(&arm(0.4), u32::MAX), None);
    }
}
