//! B1, B1a, B1c: how many requests of the canary until a fault in errors is found.

use super::{Effort, canary_requests, canary_sessions, delays, percent};
use crate::eval::rng::Rng;
use crate::eval::rollout::{Answer, usual};
use crate::eval::stats::{floor, floor_by_sides, median, whole_errors as whole};
use crate::eval::table::{Table, number, ratio};
use crate::eval::workers;
use backout_judge::sequential::Comparison;
use backout_judge::{Arm, Budget, Settings};

/// No row needs more.
const MOST: u64 = 200_000;

/// Errors alone, from the start, nothing harmless: the bare test.
fn bare_settings(alpha: f64) -> Settings {
    Settings {
        compare_latency: false,
        budget: Budget { from_start: 1.0, history: 0.0, ..Budget::default() },
        ..strict(alpha)
    }
}

/// Everything on, as delivered, but nothing called harmless.
pub fn strict(alpha: f64) -> Settings {
    Settings {
        false_rollback_probability: alpha,
        harmless_error_rate: 0.0,
        harmless_latency_increase: 0.0,
        latency_warm_up_ms: 0,
        ..Settings::default()
    }
}

/// Everything as delivered.
fn delivered(alpha: f64) -> Settings {
    let Settings { harmless_error_rate, harmless_latency_increase, .. } = Settings::default();
    Settings { harmless_error_rate, harmless_latency_increase, ..strict(alpha) }
}

/// A canary with this many more errors than the baseline.
fn more(baseline: f64, more: f64) -> impl Fn(&mut Rng, Arm) -> Answer {
    move |rng, arm| usual(rng, if arm == Arm::Canary { baseline + more } else { baseline })
}

/// The same where latency is not looked at.
fn more_bare(baseline: f64, more: f64) -> impl Fn(&mut Rng, Arm) -> Answer {
    move |rng, arm| {
        let rate = if arm == Arm::Canary { baseline + more } else { baseline };
        Answer { failed: rng.chance(rate), us: 0 }
    }
}

/// Large faults are found within few requests: more runs cost little and steady the median.
fn often(effort: &Effort, points: f64) -> Effort {
    let times = if points < 0.05 { 1 } else { 4 };
    Effort { runs: times * effort.runs, ..*effort }
}

/// B1: the bare test.
pub fn bare(effort: &Effort) -> Vec<Table> {
    let about = format!(
        "Median requests of the canary until failing; errors alone, restarts off, nothing harmless, α 0.01, {} runs \
         a row (four times as many at five points). Goal: at most 1.4 floors and 3 requests.",
        effort.runs
    );
    let columns = ["share", "baseline", "more", "median", "floor", "median/floor", "goal"];
    let mut table = Table::new("B1", about, &columns);
    let settings = bare_settings(0.01);
    for share in [0.01, 0.05] {
        for baseline in [0.001, 0.01] {
            for points in [0.01, 0.05] {
                let effort = &often(effort, points);
                let all = delays(effort, &settings, share, MOST, more_bare(baseline, points));
                let floor = floor(0.01, baseline + points, baseline);
                let (found, goal) = (median(&all), 1.4 * floor + 3.0);
                table.add(
                    Some(found.is_some_and(|found| found <= goal)),
                    vec![
                        percent(share),
                        percent(baseline),
                        format!("+{}", percent(points)),
                        number(found),
                        number(Some(floor)),
                        ratio(found.map(|found| found / floor)),
                        format!("≤ {goal:.0}"),
                    ],
                );
            }
        }
    }
    vec![table]
}

/// B1a: the whole budget.
pub fn whole_budget(effort: &Effort) -> Vec<Table> {
    let about = format!(
        "The same with everything on (errors, the past and latency, restarts over three hours), {} runs a row, four times as many from five points on. \
         Goals: 1.9 floors and 4 requests; at 50 points 6 requests. With the default harmless error rate and latency \
         increase beside: 2.3 floors and 4. α 0.001 has no goal: it shows what a smaller budget costs.",
        effort.runs
    );
    let columns = [
        "α",
        "share",
        "baseline",
        "more",
        "median",
        "floor",
        "median/floor",
        "goal",
        "median with defaults",
        "goal with defaults",
    ];
    let mut table = Table::new("B1a", about, &columns);
    for alpha in [0.05, 0.01, 0.001] {
        for share in [0.01, 0.05, 0.1] {
            for baseline in [0.001, 0.01] {
                for points in [0.01, 0.05, 0.5] {
                    row_of_budget(effort, &mut table, alpha, share, (baseline, points));
                }
            }
        }
    }
    vec![table]
}

fn row_of_budget(
    effort: &Effort,
    table: &mut Table,
    alpha: f64,
    share: f64,
    (baseline, points): (f64, f64),
) {
    let floor = floor(alpha, baseline + points, baseline);
    let effort = &often(effort, points);
    let measure = |settings: Settings| {
        median(&delays(effort, &settings, share, MOST, more(baseline, points)))
    };
    let (found, with_defaults) = (measure(strict(alpha)), measure(delivered(alpha)));
    let goal = |times: f64| if points < 0.5 { times * floor + 4.0 } else { 6.0 };
    let reached = |found: Option<f64>, goal: f64| found.is_some_and(|found| found <= goal);
    let met = reached(found, goal(1.9)) && reached(with_defaults, goal(2.3));
    let has_goal = alpha >= 0.01;
    let stated = |times: f64| match has_goal {
        true => format!("≤ {:.0}", goal(times).floor()),
        false => "–".to_owned(),
    };
    table.add(
        has_goal.then_some(met),
        vec![
            alpha.to_string(),
            percent(share),
            percent(baseline),
            format!("+{}", percent(points)),
            number(found),
            number(Some(floor)),
            ratio(found.map(|found| found / floor)),
            stated(1.9),
            number(with_defaults),
            stated(2.3),
        ],
    );
}

/// B1s: what it costs that sessions count, and that the worst is left out.
pub fn sessions(effort: &Effort) -> Vec<Table> {
    let about = format!(
        "What it costs that sessions count once and that the worst of the canary's is left out: median sessions of the canary \
         (one request each) until failing, beside requests without sessions. Everything on, nothing harmless, α 0.01, {} runs \
         a row, four times as many from five points on. k: fewest that fail, all of the canary, at which everything on fails. Single requests are bound \
         by B1a; sessions have no goal.",
        effort.runs
    );
    let columns = [
        "share",
        "baseline",
        "more",
        "k requests",
        "k sessions",
        "requests",
        "sessions",
        "more by",
    ];
    let mut table = Table::new("B1s", about, &columns);
    for share in [0.05, 0.1, 0.5] {
        for baseline in [0.001, 0.01] {
            for points in [0.01, 0.05, 0.5] {
                row_of_sessions(effort, &mut table, share, (baseline, points));
            }
        }
    }
    vec![table]
}

fn row_of_sessions(effort: &Effort, table: &mut Table, share: f64, (baseline, points): (f64, f64)) {
    let effort = &often(effort, points);
    let settings = strict(0.01);
    let world = more(baseline, points);
    let by_request = median(&delays(effort, &settings, share, MOST, &world));
    let by_session = median(&workers::run(effort.threads, effort.runs, |run| {
        let mut rng = Rng::new(effort.seed + run);
        canary_sessions(&settings, &mut rng, share, MOST, &world)
    }));
    let fewest = |one: &dyn Fn(&mut Comparison, u64)| {
        let mut comparison = Comparison::new(&settings);
        comparison.weight(share);
        (1..100).find(|number| {
            one(&mut comparison, *number);
            comparison.settle().is_some()
        })
    };
    let requests = fewest(&|comparison, number| {
        comparison.requests(number as i64, Arm::Canary, 0, 1, &[]);
    });
    let sessions = fewest(&|comparison, number| {
        comparison.session_request(number as i64, Arm::Canary, number, false, None);
    });
    let whole = |fewest: Option<u64>| fewest.map_or("–".to_owned(), |fewest| fewest.to_string());
    table.add(
        None,
        vec![
            percent(share),
            percent(baseline),
            format!("+{}", percent(points)),
            whole(requests),
            whole(sessions),
            number(by_request),
            number(by_session),
            ratio(by_request.zip(by_session).map(|(requests, sessions)| sessions / requests)),
        ],
    );
}

/// B1c: where whole errors bound it.
pub fn whole_errors(effort: &Effort) -> Vec<Table> {
    let about = format!(
        "Where whole errors bound it: one canary error is worth at most 1/ρ. k: fewest errors, all from the canary, at \
         which everything on fails; bound: ⌊ln(1/α)/ln(1/ρ)⌋; goal bound + 2. Median requests of the canary; goal: the \
         larger of 1.9 floors and 4 (6 at 50 points), and 1.2 times the median wait for k errors. *Floor by sides*: mean \
         requests, at least, of a test that knows neither rate and judges errors by the side they come from. *Told*: median of \
         the likelihood ratio with its line at 1/α (SPRT, Wald 1945) that is told the relative risk and has the whole budget for it. {} runs a row.",
        effort.runs
    );
    let columns = [
        "α",
        "share",
        "baseline",
        "more",
        "k",
        "bound",
        "median",
        "floor",
        "floor by sides",
        "told",
        "wait for k",
        "goal",
    ];
    let mut table = Table::new("B1c", about, &columns);
    for alpha in [0.05, 0.01] {
        for (share, baselines) in [
            (0.01, &[0.000_1][..]),
            (0.05, &[0.000_1]),
            (0.1, &[0.000_1]),
            (0.25, &[0.000_1, 0.001, 0.01]),
            (0.5, &[0.000_1, 0.001, 0.01]),
        ] {
            for &baseline in baselines {
                for points in [0.01, 0.05, 0.5] {
                    row_of_errors(effort, &mut table, alpha, share, (baseline, points));
                }
            }
        }
    }
    vec![table]
}

fn row_of_errors(
    effort: &Effort,
    table: &mut Table,
    alpha: f64,
    share: f64,
    (baseline, points): (f64, f64),
) {
    let effort = &often(effort, points);
    let settings = strict(alpha);
    let mut comparison = Comparison::new(&settings);
    comparison.weight(share);
    let k = comparison.errors_to_alarm().map_or(u64::MAX, u64::from);
    let bound = whole(alpha, share);
    let found = median(&workers::run(effort.threads, effort.runs, |run| {
        let mut rng = Rng::new(effort.seed + run);
        canary_requests(&settings, &mut rng, share, MOST, more(baseline, points))
    }));
    let wait = median(&workers::run(effort.threads, effort.runs, |run| {
        let mut rng = Rng::new(effort.seed + run);
        (0..k.min(1_000)).map(|_| until_error(&mut rng, baseline + points)).sum::<f64>().into()
    }));
    let told = median(&workers::run(effort.threads, effort.runs, |run| {
        let mut rng = Rng::new(effort.seed + run);
        Some(told_the_risk(&mut rng, alpha, share, baseline + points, baseline))
    }));
    let floor = floor(alpha, baseline + points, baseline);
    let goal = if points < 0.5 { 1.9 * floor + 4.0 } else { 6.0 };
    let goal = goal.max(1.2 * wait.unwrap_or(0.0));
    let met = k <= bound + 2 && found.is_some_and(|found| found <= goal);
    table.add(
        Some(met),
        vec![
            alpha.to_string(),
            percent(share),
            percent(baseline),
            format!("+{}", percent(points)),
            k.to_string(),
            bound.to_string(),
            number(found),
            number(Some(floor)),
            number(Some(floor_by_sides(alpha, baseline + points, baseline, share))),
            number(told),
            number(wait),
            format!("≤ {:.0}", goal.floor()),
        ],
    );
}

/// Requests of the canary until a test that judges errors by their side and is told the relative risk fails. It can
/// only do so at an error of the canary; those of the baseline come in between, so many for each request of the canary.
fn told_the_risk(rng: &mut Rng, alpha: f64, share: f64, bad: f64, usual: f64) -> f64 {
    let errors = share * bad + (1.0 - share) * usual;
    let theta = share * bad / errors;
    let (up, down) = ((theta / share).ln(), ((1.0 - theta) / (1.0 - share)).ln());
    let beside = (1.0 - share) / share * usual;
    let (mut evidence, mut requests) = (0.0, 0.0);
    while evidence < (1.0 / alpha).ln() {
        let more = until_error(rng, bad);
        requests += more;
        evidence += up + rng.poisson(beside * more) as f64 * down;
    }
    requests
}

/// Requests of the canary until a test fails that is told both rates: the sequential probability ratio test.
pub(super) fn told_the_rates(rng: &mut Rng, alpha: f64, bad: f64, usual: f64) -> f64 {
    let (up, down) = ((bad / usual).ln(), ((1.0 - bad) / (1.0 - usual)).ln());
    let (mut evidence, mut requests) = (0.0, 0.0);
    while evidence < (1.0 / alpha).ln() {
        let more = until_error(rng, bad);
        requests += more;
        evidence += up + (more - 1.0) * down;
    }
    requests
}

/// Requests up to the next one that fails.
fn until_error(rng: &mut Rng, rate: f64) -> f64 {
    1.0 + ((1.0 - rng.uniform()).ln() / (1.0 - rate).ln()).floor()
}
