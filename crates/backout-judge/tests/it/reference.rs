//! The recursion against the definition: every start time and every alternative on its own, in the
//! log domain, with nothing shared with the crate but the published constants.

use crate::sim::Rng;
use backout_judge::sequential::Comparison;
use backout_judge::{Arm, Budget, Settings};

const RISKS: [f64; 8] = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0];
/// Weights up to a share of 10 %.
const PRIOR: [f64; 8] = [0.06, 0.08, 0.10, 0.13, 0.17, 0.19, 0.15, 0.12];
const RESTART_PRIOR: [f64; 8] = [0.02, 0.03, 0.07, 0.13, 0.18, 0.24, 0.20, 0.13];
const ODDS: [f64; 6] = [2.0, 4.0, 10.0, 30.0, 100.0, 1000.0];
const HORIZON_MS: f64 = 10.0 * 60_000.0;

#[derive(Clone, Copy)]
struct Seen {
    at_ms: i64,
    share: f64,
    canary: bool,
    failed: bool,
}

fn settings(harmless: f64, tolerance: f64, from_start: f64) -> Settings {
    Settings {
        harmless_error_rate: harmless,
        harmless_error_increase: tolerance,
        watch_ms: HORIZON_MS as i64,
        compare_latency: false,
        false_rollback_probability: 1e-9,
        budget: Budget { from_start, history: 0.0, ..Budget::default() },
        ..Settings::default()
    }
}

fn mass(elapsed_ms: i64) -> f64 {
    let part = elapsed_ms as f64 / HORIZON_MS;
    0.9 * part.min(1.0) + 0.1 * part / (1.0 + part)
}

/// Log likelihood ratio of one event at relative risk `r`.
fn log_risk(seen: &Seen, r: f64, tolerance: f64) -> f64 {
    if !seen.failed || r <= 1.0 + tolerance {
        return 0.0;
    }
    let theta = |r: f64| r * seen.share / (r * seen.share + 1.0 - seen.share);
    let null = theta(1.0 + tolerance);
    if seen.canary { (theta(r) / null).ln() } else { ((1.0 - theta(r)) / (1.0 - null)).ln() }
}

/// Log likelihood ratio of one request of the canary at `times` the odds of the harmless rate.
fn log_rate(seen: &Seen, times: f64, harmless: f64) -> f64 {
    let odds = times * harmless / (1.0 - harmless);
    let rate = odds / (1.0 + odds);
    match (seen.canary, seen.failed) {
        (false, _) => 0.0,
        (true, true) => (rate / harmless).ln(),
        (true, false) => ((1.0 - rate) / (1.0 - harmless)).ln(),
    }
}

/// The e-value by its definition.
fn definition(
    events: &[Seen],
    [fresh, restarts]: [&[(f64, f64)]; 2],
    from_start: f64,
    log_factor: impl Fn(&Seen, f64) -> f64,
) -> f64 {
    let began_ms = events[0].at_ms;
    let since = |start: usize, alternatives: &[(f64, f64)]| -> f64 {
        let of = |&(r, weight): &(f64, f64)| {
            weight * events[start..].iter().map(|e| log_factor(e, r)).sum::<f64>().exp()
        };
        alternatives.iter().map(of).sum::<f64>()
    };
    let mut restarted = 1.0 - mass(events[events.len() - 1].at_ms - began_ms);
    let mut before = 0.0;
    for (start, event) in events.iter().enumerate() {
        let now = mass(event.at_ms - began_ms);
        restarted += (now - before) * since(start, restarts);
        before = now;
    }
    from_start * since(0, fresh) + (1.0 - from_start) * restarted
}

/// Relative risks above the tolerance with their weights, which sum to 1 again.
fn weighted(prior: [f64; 8], tolerance: f64) -> Vec<(f64, f64)> {
    let all = RISKS.iter().copied().zip(prior);
    let kept: Vec<_> = all.filter(|(r, _)| *r > 1.0 + tolerance).collect();
    let sum: f64 = kept.iter().map(|(_, weight)| weight).sum();
    kept.into_iter().map(|(r, weight)| (r, weight / sum)).collect()
}

fn events(seed: u64, canary_rate: f64, baseline_rate: f64) -> Vec<Seen> {
    let mut rng = Rng::new(seed);
    (1..=1_500)
        .map(|number| {
            // All shares up to 10 % have the same weights.
            let share = if number < 700 { 0.02 } else { 0.1 };
            let canary = rng.uniform() < share;
            let rate = if canary { canary_rate } else { baseline_rate };
            Seen { at_ms: 17 * number, share, canary, failed: rng.uniform() < rate }
        })
        .collect()
}

fn recursion(settings: &Settings, events: &[Seen]) -> f64 {
    let mut comparison = Comparison::new(settings);
    let mut share = 0.0;
    for event in events {
        if event.share != share {
            share = event.share;
            comparison.weight(share);
        }
        let arm = if event.canary { Arm::Canary } else { Arm::Baseline };
        let (ok, failed) = (u64::from(!event.failed), u64::from(event.failed));
        comparison.requests(event.at_ms, arm, ok, failed, &[]);
    }
    comparison.settle();
    comparison.e_values().combined
}

fn assert_close(found: f64, wanted: f64, what: &str) {
    assert!((found / wanted - 1.0).abs() < 1e-9, "{what}: {found} instead of {wanted}");
}

#[test]
fn relative_risk_equals_its_definition() {
    for (seed, canary, baseline) in [(1, 0.05, 0.05), (2, 0.3, 0.02), (3, 0.0, 0.1), (4, 1.0, 0.5)]
    {
        for (from_start, tolerance) in [(1.0, 0.0), (0.75, 0.0), (0.0, 0.0), (0.75, 1.2)] {
            let events = events(seed, canary, baseline);
            let kept = [PRIOR, RESTART_PRIOR].map(|prior| weighted(prior, tolerance));
            let kept = [&kept[0][..], &kept[1]];
            let wanted = definition(&events, kept, from_start, |e, r| log_risk(e, r, tolerance));
            let found = recursion(&settings(0.0, tolerance, from_start), &events);
            assert_close(found, wanted, &format!("seed {seed}, from start {from_start}"));
        }
    }
}

#[test]
fn the_union_with_harmless_equals_its_definition() {
    let harmless = 0.02;
    for (seed, canary, baseline) in [(5, 0.01, 0.0), (6, 0.3, 0.02), (7, 0.08, 0.08)] {
        let events = events(seed, canary, baseline);
        let kept = [PRIOR, RESTART_PRIOR].map(|prior| weighted(prior, 0.0));
        let risk = definition(&events, [&kept[0], &kept[1]], 0.75, |e, r| log_risk(e, r, 0.0));
        let odds = ODDS.map(|times| (times, 1.0 / 6.0));
        let rate = definition(&events, [&odds; 2], 0.75, |e, times| log_rate(e, times, harmless));
        let found = recursion(&settings(harmless, 0.0, 0.75), &events);
        assert_close(found, risk.min(rate), &format!("seed {seed}: {risk} or {rate}"));
    }
}

#[test]
fn three_errors_by_hand() {
    // ρ = 0.1 and r = 5 give θ = 0.5/1.4; three canary errors and one of the baseline.
    let by_hand: f64 = RISKS
        .iter()
        .zip(PRIOR)
        .map(|(r, weight)| {
            let theta = r * 0.1 / (r * 0.1 + 0.9);
            weight * (theta / 0.1).powi(3) * (1.0 - theta) / 0.9
        })
        .sum();
    let mut comparison = Comparison::new(&settings(0.0, 0.0, 1.0));
    comparison.weight(0.1);
    comparison.requests(5, Arm::Canary, 0, 3, &[]);
    comparison.requests(5, Arm::Baseline, 100, 1, &[]);
    comparison.settle();
    assert_close(comparison.e_values().combined, by_hand, "by hand");
    assert!((by_hand - 53.139).abs() < 0.001, "{by_hand}");
}

#[test]
fn the_fewest_errors_that_fail_are_near_the_bound() {
    // One canary error multiplies the evidence by at most 1/ρ.
    for alpha in [0.05f64, 0.01] {
        for share in [0.01f64, 0.05, 0.1, 0.25, 0.5] {
            let settings = Settings {
                false_rollback_probability: alpha,
                harmless_error_rate: 0.0,
                ..Settings::default()
            };
            let mut comparison = Comparison::new(&settings);
            comparison.weight(share);
            let bound = ((1.0 / alpha).ln() / (1.0 / share).ln()).floor() as u32;
            let needed = comparison.errors_to_alarm();
            assert!(needed.is_some_and(|k| k > bound && k <= bound + 2), "{share}: {needed:?}");
        }
    }
}
