//! B4: how much longer a fault takes to be found that begins late.

use super::detection::strict;
use super::{Effort, STEP_MS, request};
use crate::eval::rng::Rng;
use crate::eval::rollout::{Answer, answer, usual};
use crate::eval::stats::median;
use crate::eval::table::{Table, number, ratio};
use crate::eval::workers;
use backout_judge::Arm;
use backout_judge::sequential::Comparison;

const SHARE: f64 = 0.1;
const MOST: u64 = 60_000;
const ALPHAS: [f64; 3] = [0.05, 0.01, 0.001];
/// Taken back before the onset.
const TOO_EARLY: Option<f64> = Some(-1.0);

/// A fault.
struct Fault {
    name: &'static str,
    errors: f64,
    slower: f64,
}

const FAULTS: &[Fault] = &[
    Fault { name: "+1 point", errors: 0.01, slower: 1.0 },
    Fault { name: "+5 points", errors: 0.05, slower: 1.0 },
    Fault { name: "+50 points", errors: 0.5, slower: 1.0 },
    Fault { name: "2× as slow", errors: 0.0, slower: 2.0 },
    Fault { name: "20 % slower", errors: 0.0, slower: 1.2 },
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
    for fault in FAULTS {
        let runs = [0, 5, 30, 120].map(|minutes| {
            workers::run(effort.threads, effort.runs, |run| one(fault, minutes, effort.seed + run))
        });
        for (index, alpha) in ALPHAS.into_iter().enumerate() {
            let [fresh, late @ ..] = runs.each_ref().map(|runs| {
                // A run that was taken back before the onset says nothing about it.
                let told = runs.iter().map(|run| run[index]).filter(|delay| *delay != TOO_EARLY);
                median(&told.collect::<Vec<_>>())
            });
            let quotients: Option<Vec<f64>> =
                late.iter().map(|late| Some((*late)? / fresh?)).collect();
            let largest = quotients.map(|all| all.into_iter().fold(0.0, f64::max));
            // The goal is for the default budget.
            let counts = alpha == 0.01;
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

/// Canary requests from the onset to each budget's line: the evidence does not depend on the budget.
fn one(fault: &Fault, minutes: i64, seed: u64) -> [Option<f64>; 3] {
    let mut rng = Rng::new(seed);
    let mut comparison = Comparison::new(&strict(1e-9));
    comparison.weight(SHARE);
    let mut found = [None; 3];
    let mut look = |comparison: &mut Comparison, canary: f64| {
        comparison.settle();
        let evidence = comparison.e_values().combined;
        for (found, alpha) in found.iter_mut().zip(ALPHAS) {
            if found.is_none() && evidence >= 1.0 / alpha {
                *found = Some(canary);
            }
        }
        found.iter().all(Option::is_some)
    };
    let timed = fault.slower > 1.0;
    let mut at_ms = 0;
    while at_ms < minutes * 60_000 {
        at_ms += 100;
        before(&mut rng, &mut comparison, at_ms, timed);
        look(&mut comparison, -1.0);
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
        if look(&mut comparison, canary as f64) {
            break;
        }
    }
    found
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
