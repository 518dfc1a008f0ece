//! Situations a judge meets: those in which it must not fail a release, and those in which it must.

pub mod healthy;
pub mod healthy_sources;
pub mod regressions;
pub mod regressions_late;

use super::rollout::Rollout;
use backout_judge::{Settings, Verdict};

/// One situation.
#[derive(Clone, Copy)]
pub struct Family {
    /// Its name in tables and on the command line.
    pub name: &'static str,
    /// What happens in it.
    pub about: &'static str,
    /// What the judge is told beforehand.
    pub settings: fn() -> Settings,
    /// Runs count so many times as many: where much of the budget is spent, 10 000 runs are too few
    /// to tell 0.0006 from 0.001.
    pub weight: u64,
    /// Plays it until its end, or until the judge fails.
    pub play: fn(&mut Rollout),
}

/// All that must not fail.
pub fn healthy() -> Vec<Family> {
    [healthy::ALL, healthy_sources::ALL].concat()
}

/// All that must.
pub fn regressions() -> Vec<Family> {
    [regressions::ALL, regressions_late::ALL].concat()
}

/// What one run came to.
#[derive(Debug, Clone)]
pub struct Played {
    /// The largest combined e-value.
    pub peak: f64,
    /// The failing verdict, if there is one.
    pub failing: Option<Verdict>,
    /// From the onset to it.
    pub after_ms: Option<i64>,
    /// Requests of the canary since the onset, and those that failed.
    pub canary: [u64; 2],
}

impl Family {
    /// One run.
    pub fn play(&self, settings: Settings, seed: u64, look_ms: i64) -> Played {
        let mut rollout = Rollout::new(settings, seed);
        rollout.look_ms = look_ms;
        (self.play)(&mut rollout);
        rollout.look();
        let verdict = rollout.judge.verdict(rollout.told_ms());
        Played {
            peak: rollout.peak(),
            after_ms: rollout.failed_ms.map(|at_ms| at_ms - rollout.onset_ms),
            failing: verdict.is_failing().then_some(verdict),
            canary: rollout.canary,
        }
    }
}
