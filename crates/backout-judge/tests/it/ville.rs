//! Ville's bound, checked by simulation: among many harmless releases, watched at every request,
//! at most the budget's part is taken back. Fixed seeds, exact binomial interval.

use crate::sim::{Answer, Rng, binomial_tail, run, shows_at_most};
use backout_judge::Settings;
use backout_judge::sequential::Comparison;

fn alarms(
    runs: u64,
    settings: &Settings,
    one: impl Fn(&mut Comparison, &mut Rng) -> Option<backout_judge::sequential::Alarm>,
) -> u64 {
    (0..runs)
        .filter(|seed| {
            let mut comparison = Comparison::new(settings);
            one(&mut comparison, &mut Rng::new(seed + 1)).is_some()
        })
        .count() as u64
}

fn settings(alpha: f64) -> Settings {
    Settings {
        false_rollback_probability: alpha,
        harmless_error_rate: 0.0,
        harmless_latency_increase: 0.0,
        latency_warm_up_ms: 0,
        ..Settings::default()
    }
}

/// Log-normal latency, the same on both sides, with a rate of failures that depends on time.
fn same(rate: impl Fn(i64) -> f64) -> impl Fn(&mut Rng, i64) -> Answer {
    move |rng, at_ms| Answer {
        failed: rng.uniform() < rate(at_ms),
        latency_ms: 100.0 * (0.5 * rng.normal()).exp(),
    }
}

#[test]
fn equal_sides_stay_within_the_budget() {
    let world = same(|_| 0.1);
    let seen = alarms(4_000, &settings(0.05), |comparison, rng| {
        run(comparison, rng, |_| 0.2, 700, 10, |rng, _, at| world(rng, at))
    });
    // With an error in ten requests nothing is wasted and the true rate comes near the bound, so
    // 4000 runs can only show that it is not above.
    assert!(binomial_tail(4_000, 0.05, seen) > 0.05, "{seen} of 4000");
    assert!(seen > 40, "{seen} of 4000: blind?");
}

#[test]
fn bursts_and_changing_weights_stay_within_the_budget() {
    // Every fourth second is a burst in which half of all requests fail; the weight rises.
    let world = same(|at_ms| if at_ms / 1_000 % 4 == 0 { 0.5 } else { 0.01 });
    let share = |at_ms: i64| match at_ms {
        0..5_000 => 0.01,
        5_000..10_000 => 0.05,
        10_000..15_000 => 0.25,
        _ => 0.5,
    };
    let seen = alarms(1_500, &settings(0.05), |comparison, rng| {
        run(comparison, rng, share, 2_000, 10, |rng, _, at| world(rng, at))
    });
    assert!(shows_at_most(0.05, seen, 1_500), "{seen} of 1500");
}

#[test]
fn a_harmless_rate_beside_a_perfect_baseline_stays_within_the_budget() {
    let settings = Settings { harmless_error_rate: 0.05, ..settings(0.05) };
    let seen = alarms(1_000, &settings, |comparison, rng| {
        run(
            comparison,
            rng,
            |_| 0.5,
            2_000,
            10,
            |rng, arm, _| Answer {
                failed: arm == backout_judge::Arm::Canary && rng.uniform() < 0.05,
                latency_ms: 100.0,
            },
        )
    });
    assert!(shows_at_most(0.05, seen, 1_000), "{seen} of 1000");
}

#[test]
fn a_slowdown_within_the_tolerance_stays_within_the_budget() {
    let settings = Settings { harmless_latency_increase: 0.1, ..settings(0.05) };
    let seen = alarms(1_000, &settings, |comparison, rng| {
        run(
            comparison,
            rng,
            |_| 0.3,
            2_000,
            10,
            |rng, arm, _| {
                let factor = if arm == backout_judge::Arm::Canary { 1.1 } else { 1.0 };
                Answer { failed: false, latency_ms: factor * 100.0 * (0.3 * rng.normal()).exp() }
            },
        )
    });
    assert!(shows_at_most(0.05, seen, 1_000), "{seen} of 1000");
}
