//! B3: slowdowns, beside the best tests of distributions that are valid at any time.

use super::detection::strict;
use super::{Effort, canary_requests};
use crate::eval::families::regressions::{bimodal, tail};
use crate::eval::howard_ramdas::{Band, BetaBinomial, quantile_evidence};
use crate::eval::rng::Rng;
use crate::eval::rollout::{Answer, answer};
use crate::eval::stats::median;
use crate::eval::table::{Table, number, ratio};
use crate::eval::workers;
use backout_judge::{Arm, Settings};

const SHARE: f64 = 0.1;
const MOST: u64 = 20_000;
const ALPHA: f64 = 0.01;

/// How the canary answers.
struct Scenario {
    name: &'static str,
    canary: fn(&mut Rng) -> Answer,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "20 % slower", canary: |rng| answer(rng, 0.0, 1.2) },
    Scenario { name: "50 % slower", canary: |rng| answer(rng, 0.0, 1.5) },
    Scenario { name: "2× as slow", canary: |rng| answer(rng, 0.0, 2.0) },
    Scenario { name: "5× as slow", canary: |rng| answer(rng, 0.0, 5.0) },
    Scenario { name: "tail-only: 2 % + 1 s", canary: tail },
    Scenario { name: "bimodal: 20 % four times as slow", canary: bimodal },
];

/// The yardsticks.
const YARDSTICKS: [&str; 4] = ["band", "p50 test", "p90 test", "p99 test"];

/// B3.
pub fn measure(effort: &Effort) -> Vec<Table> {
    let runs = effort.runs.min(200);
    let effort = &Effort { runs, ..*effort };
    let about = format!(
        "Median requests of the canary until a slowdown is found; 10 % of the requests, α 0.01, {runs} runs a row. Ours: everything \
         on (latency has a fifth of the budget, restarts a part of that), no tolerance, no warm-up; beside it with the default \
         tolerance of 10 %. The yardsticks of Howard and Ramdas have every value and no restarts, and look whenever the canary has 1 % more \
         requests; the band has all of the budget, the test of a quantile a third for each of three, as nobody knows beforehand \
         which one a release will make worse. Goal: at most the best of them, and never \"never\" (within {MOST} requests of the canary)."
    );
    let mut columns = vec!["slowdown", "ours"];
    columns.extend(YARDSTICKS);
    columns.extend(["ours/best", "goal", "ours with defaults"]);
    let mut table = Table::new("B3", about, &columns);
    for scenario in SCENARIOS {
        let world = |rng: &mut Rng, arm: Arm| match arm {
            Arm::Canary => (scenario.canary)(rng),
            Arm::Baseline => answer(rng, 0.001, 1.0),
        };
        let ours = |settings: Settings| {
            median(&workers::run(effort.threads, runs, |run| {
                let mut rng = Rng::new(effort.seed + run);
                canary_requests(&settings, &mut rng, SHARE, MOST, world)
            }))
        };
        let strict_found = ours(strict(ALPHA));
        let defaults = Settings { latency_warm_up_ms: 0, ..Settings::default() };
        let with_defaults = ours(defaults);
        let found: [Option<f64>; 4] = std::array::from_fn(|which| {
            median(&workers::run(effort.threads, runs, |run| {
                yardstick(which, &mut Rng::new(effort.seed + run), scenario)
            }))
        });
        let best = found.into_iter().flatten().fold(f64::INFINITY, f64::min);
        let quotient = strict_found.map(|ours| ours / best);
        let mut cells = vec![scenario.name.to_owned(), number(strict_found)];
        cells.extend(found.map(number));
        cells.extend([ratio(quotient), "≤ 1".to_owned(), number(with_defaults)]);
        let met = quotient.is_some_and(|quotient| quotient <= 1.0) && with_defaults.is_some();
        table.add(Some(met), cells);
    }
    vec![table]
}

/// Canary requests until one of the yardsticks finds it.
fn yardstick(which: usize, rng: &mut Rng, scenario: &Scenario) -> Option<f64> {
    let quantile = [0.0, 0.5, 0.9, 0.99][which];
    let band = Band::new(ALPHA / 2.0, 32.0);
    let alpha = ALPHA / 3.0;
    let mixture = (which > 0).then(|| BetaBinomial::new(quantile, 1_000.0, alpha));
    let mut arms: [Vec<u64>; 2] = Default::default();
    // A look is dear: the band and the 99th percentile can't find anything in the first requests.
    let mut next = if which == 0 { 32 } else { 10 };
    while next <= MOST {
        let mut more: [Vec<u64>; 2] = Default::default();
        while arms[0].len() + more[0].len() < next as usize {
            let canary = rng.chance(SHARE);
            let us = match canary {
                true => (scenario.canary)(rng).us,
                false => answer(rng, 0.0, 1.0).us,
            };
            more[usize::from(!canary)].push(us);
        }
        for (arm, more) in arms.iter_mut().zip(more) {
            arm.extend(more);
            // Mostly sorted already.
            arm.sort();
        }
        let [canary, baseline] = &arms;
        let found = match &mixture {
            None => apart(&band, canary, baseline),
            Some(mixture) => {
                quantile_evidence(mixture, [canary, baseline], 50) >= (1.0 / alpha).ln()
            }
        };
        if found {
            return Some(next as f64);
        }
        next += (next / 100).max(1);
    }
    None
}

/// Whether somewhere the canary's band lies wholly below the baseline's: fewer are as fast.
fn apart(band: &Band, canary: &[u64], baseline: &[u64]) -> bool {
    let (n, m) = (canary.len() as f64, baseline.len() as f64);
    let both = band.at(n) + band.at(m);
    let gap = |below: usize| {
        // Just below the value of this rank the canary's function is smallest.
        let x = canary[below];
        let slower = canary.partition_point(|&value| value < x) as f64 / n;
        baseline.partition_point(|&value| value < x) as f64 / m - slower
    };
    (0..canary.len()).any(|below| gap(below) > both)
}
