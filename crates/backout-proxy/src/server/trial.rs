//! The test behind an armed trip: the judge's own comparison of errors, on the proxy's own counters.

use std::sync::Arc;

use backout_core::model::TripRule;
use backout_judge::{
    Arm, Budget, Settings,
    sequential::{Alarm, Comparison},
};

use super::{
    persist::StoredTrip, route::Table, session_log::Place, stats::Counters, validate::TRILLION,
};
use crate::wire::{SessionSeen, SideName, TripArm};

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
    /// What is still to be taken in of sessions; none where requests fall to the sides one by one.
    sessions: Option<Place>,
}

impl Seen {
    fn new(arm: Arm, counters: Arc<Counters>, by_session: bool) -> Self {
        let (trials, failed) = counters.trials();
        let sessions = by_session.then(|| counters.sessions_end());
        Self { arm, counters, trials, failed, sessions }
    }

    /// What is new: requests, failures and, under sticky routing, the outcomes of sessions one by one, or none where
    /// a part of those is lost.
    fn news(&mut self) -> News {
        let (trials, failed) = self.counters.trials();
        let (before, failed_before) = (self.trials, self.failed);
        (self.trials, self.failed) = (trials, failed);
        let sessions = self.sessions.as_mut().map(|place| self.counters.sessions_since(place));
        let failed = failed.saturating_sub(failed_before);
        let ok = trials.saturating_sub(before).saturating_sub(failed);
        News { arm: self.arm, ok, failed, sessions }
    }
}

/// What one look finds new on one side.
struct News {
    arm: Arm,
    ok: u64,
    failed: u64,
    sessions: Option<Option<Vec<SessionSeen>>>,
}

impl News {
    fn is_lost(&self) -> bool {
        matches!(self.sessions, Some(None))
    }

    fn take_in(&self, comparison: &mut Comparison, now_ms: i64) {
        match &self.sessions {
            Some(sessions) => {
                for seen in sessions.iter().flatten() {
                    let ok = seen.bucket.is_some();
                    comparison.session_request(now_ms, self.arm, seen.session, ok, None);
                }
            }
            None if self.ok > 0 || self.failed > 0 => {
                comparison.requests(now_ms, self.arm, self.ok, self.failed, &[]);
            }
            None => {}
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
        let by_session = table.sticky.is_some();
        let counters =
            |side: SideName| table.sides[side.index()].as_ref().map(|side| side.counters.clone());
        let mut trial = Self {
            id,
            comparison: Comparison::new(&settings(&trip.arm, budget(&trip.arm, number)?)),
            sides: [
                Seen::new(Arm::Baseline, counters(stable)?, by_session),
                Seen::new(Arm::Canary, counters(stable.other())?, by_session),
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
        let news = self.sides.each_mut().map(Seen::news);
        let is_lost = news.iter().any(News::is_lost);
        for news in &news {
            if is_lost {
                // What is left of one side has nothing to be compared with.
                self.comparison.unattributed(now_ms, news.arm, news.ok, news.failed);
            } else {
                news.take_in(&mut self.comparison, now_ms);
            }
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
