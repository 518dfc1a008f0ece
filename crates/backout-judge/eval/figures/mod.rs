//! The figures of `docs/judge.md`.

pub mod detection;
pub mod onset;
pub mod peers;
pub mod rollbacks;
pub mod speed;
pub mod yardsticks;

use super::rng::Rng;
use super::rollout::Answer;
use super::table::Table;
use super::workers;
use backout_judge::sequential::Comparison;
use backout_judge::{Arm, Settings};

/// How much of it to do.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Runs per row of delays.
    pub runs: u64,
    /// Runs per family of false rollbacks.
    pub rollback_runs: u64,
    /// Threads.
    pub threads: usize,
    /// Where random numbers begin.
    pub seed: u64,
}

/// A figure: its name and what makes it.
pub struct Figure {
    /// Its name on the command line.
    pub name: &'static str,
    /// Measures it.
    pub measure: fn(&Effort) -> Vec<Table>,
}

/// All of them, the cheap first.
pub const ALL: &[Figure] = &[
    Figure { name: "B5", measure: speed::measure },
    Figure { name: "B1", measure: detection::bare },
    Figure { name: "B1a", measure: detection::whole_budget },
    Figure { name: "B1s", measure: detection::sessions },
    Figure { name: "B1c", measure: detection::whole_errors },
    Figure { name: "B1b", measure: peers::measure },
    Figure { name: "B4", measure: onset::measure },
    Figure { name: "B3", measure: yardsticks::measure },
    Figure { name: "regressions", measure: rollbacks::regressions },
    Figure { name: "B2", measure: rollbacks::measure },
];

/// Requests arrive this far apart: 100 a second.
pub const STEP_MS: i64 = 10;

/// Plays one request after the other to a comparison, each a reading of its own, until it alarms:
/// the requests of the canary by then.
pub fn canary_requests(
    settings: &Settings,
    rng: &mut Rng,
    share: f64,
    most: u64,
    world: impl Fn(&mut Rng, Arm) -> Answer,
) -> Option<f64> {
    let mut comparison = Comparison::new(settings);
    comparison.weight(share);
    let mut canary = 0u64;
    for number in 1.. {
        let arm = if rng.chance(share) { Arm::Canary } else { Arm::Baseline };
        canary += u64::from(arm == Arm::Canary);
        request(&mut comparison, number * STEP_MS, arm, world(rng, arm));
        if comparison.settle().is_some() {
            return Some(canary as f64);
        }
        if canary >= most {
            break;
        }
    }
    None
}

/// The same with each request a session of its own.
pub fn canary_sessions(
    settings: &Settings,
    rng: &mut Rng,
    share: f64,
    most: u64,
    world: impl Fn(&mut Rng, Arm) -> Answer,
) -> Option<f64> {
    let mut comparison = Comparison::new(settings);
    comparison.weight(share);
    let mut canary = 0u64;
    for number in 1.. {
        let arm = if rng.chance(share) { Arm::Canary } else { Arm::Baseline };
        canary += u64::from(arm == Arm::Canary);
        let Answer { failed, us } = world(rng, arm);
        comparison.session_request(number * STEP_MS, arm, number as u64, !failed, Some(us));
        if comparison.settle().is_some() {
            return Some(canary as f64);
        }
        if canary >= most {
            break;
        }
    }
    None
}

/// Shows one request.
pub fn request(comparison: &mut Comparison, at_ms: i64, arm: Arm, answer: Answer) {
    let latency = [(answer.us, 1)];
    let latency = if answer.failed { &[][..] } else { &latency[..] };
    let failed = u64::from(answer.failed);
    comparison.requests(at_ms, arm, 1 - failed, failed, latency);
}

/// The same for many runs.
pub fn delays(
    effort: &Effort,
    settings: &Settings,
    share: f64,
    most: u64,
    world: impl Fn(&mut Rng, Arm) -> Answer + Sync,
) -> Vec<Option<f64>> {
    workers::run(effort.threads, effort.runs, |run| {
        let mut rng = Rng::new(effort.seed + run);
        canary_requests(settings, &mut rng, share, most, &world)
    })
}

/// As people write it.
pub fn percent(part: f64) -> String {
    let text = format!("{:.3}", part * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}
