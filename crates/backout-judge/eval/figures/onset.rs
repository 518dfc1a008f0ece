//! B4: how much longer a fault takes to be found that begins late.

use super::detection::strict;
use super::{Effort, STEP_MS, request};
use crate::eval::rng::Rng;
use crate::eval::rollout::{Answer, answer, usual};
use crate::eval::stats::median;
use crate::eval::table::{Table, number, ratio};
use crate::eval::workers;
use backout_judge::sequential::Comparison;
use backout_judge::{Arm, Settings};

const SHARE: f64 = 0.1;
const MOST: u64 = 60_000;

/// A fault.
struct Fault {
    name: &'static str,
    errors: f64,
    slower: f64,
    /// A row with a goal.
    counts: bool,
}

const FAULTS: &[Fault] = &[
    Fault { name: "+1 point", errors: 0.01, slower: 1.0, counts: true },
    Fault { name: "+5 points", errors: 0.05, slower: 1.0, counts: true },
    Fault { name: "+50 points", errors: 0.5, slower: 1.0, counts: true },
    Fault { name: "2× as slow", errors: 0.0, slower: 2.0, counts: true },
    Fault { name: "20 % slower", errors: 0.0, slower: 1.2, counts: true },
];

/// B4.
pub fn measure(effort: &Effort) -> Vec<Table> {
    let about = format!(
        "Median requests of the canary from the onset to failing; everything on, nothing harmless, a watch of three \
         hours, 10 % of 100 requests/s, 0.1 % errors before, {} runs a row. Divided by the same fault with a fresh start; goal 2.5.",
        effort.runs
    );
    let columns = ["α", "fault", "fresh", "5 min", "30 min", "120 min", "largest quotient", "goal"];
    let mut table = Table::new("B4", about, &columns);
    for alpha in [0.01, 0.001, 0.05] {
        for fault in FAULTS {
            let delay = |minutes: i64| {
                median(&workers::run(effort.threads, effort.runs, |run| {
                    one(&strict(alpha), fault, minutes, effort.seed + run)
                }))
            };
            let fresh = delay(0);
            let late = [5, 30, 120].map(delay);
            let quotient = |late: Option<f64>| Some(late? / fresh?);
            let largest = late
                .into_iter()
                .map(quotient)
                .collect::<Option<Vec<_>>>()
                .map(|all| all.into_iter().fold(0.0, f64::max));
            // The table asks for one quotient; it is judged at the default budget.
            let counts = fault.counts && alpha == 0.01;
            table.add(
                counts.then_some(largest.is_some_and(|largest| largest <= 2.5)),
                vec![
                    alpha.to_string(),
                    fault.name.to_owned(),
                    number(fresh),
                    number(late[0]),
                    number(late[1]),
                    number(late[2]),
                    ratio(largest),
                    if counts { "≤ 2.5" } else { "–" }.to_owned(),
                ],
            );
        }
    }
    vec![table]
}

/// Canary requests from the onset; a run with a false alarm before it says nothing.
fn one(settings: &Settings, fault: &Fault, minutes: i64, seed: u64) -> Option<f64> {
    let mut rng = Rng::new(seed);
    let mut comparison = Comparison::new(settings);
    comparison.weight(SHARE);
    let timed = fault.slower > 1.0;
    let mut at_ms = 0;
    while at_ms < minutes * 60_000 {
        at_ms += 100;
        before(&mut rng, &mut comparison, at_ms, timed);
        // A false alarm would end the watch: begin anew, as another run would.
        if comparison.settle().is_some() {
            return one(settings, fault, minutes, seed.wrapping_add(1_000_003));
        }
    }
    let mut canary = 0;
    while canary < MOST {
        at_ms += STEP_MS;
        let arm = draw(&mut rng);
        canary += u64::from(arm == Arm::Canary);
        let (errors, slower) = match arm {
            Arm::Canary => (0.001 + fault.errors, fault.slower),
            Arm::Baseline => (0.001, 1.0),
        };
        show(&mut comparison, at_ms, arm, answer(&mut rng, errors, slower), timed);
        if comparison.settle().is_some() {
            return Some(canary as f64);
        }
    }
    None
}

/// A reading of ten requests on average without the fault.
fn before(rng: &mut Rng, comparison: &mut Comparison, at_ms: i64, timed: bool) {
    for (arm, mean) in [(Arm::Canary, 10.0 * SHARE), (Arm::Baseline, 10.0 * (1.0 - SHARE))] {
        if timed {
            for _ in 0..rng.poisson(mean) {
                request(comparison, at_ms, arm, usual(rng, 0.001));
            }
        } else {
            let (ok, failed) = (rng.poisson(mean * 0.999), rng.poisson(mean * 0.001));
            comparison.requests(at_ms, arm, ok, failed, &[]);
        }
    }
}

fn draw(rng: &mut Rng) -> Arm {
    if rng.chance(SHARE) { Arm::Canary } else { Arm::Baseline }
}

fn show(comparison: &mut Comparison, at_ms: i64, arm: Arm, answer: Answer, timed: bool) {
    if timed {
        request(comparison, at_ms, arm, answer);
    } else {
        let failed = u64::from(answer.failed);
        comparison.requests(at_ms, arm, 1 - failed, failed, &[]);
    }
}
