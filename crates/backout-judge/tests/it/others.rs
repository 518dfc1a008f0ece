//! Routes, the past, other metrics, and the evidence that a canary is no worse.

use crate::sim::{Rng, shows_at_most};
use backout_judge::sequential::{Alarm, Comparison};
use backout_judge::{Arm, Budget, Cause, Event, Judge, Settings, Worse};

fn with(budget: Budget) -> Settings {
    Settings { compare_latency: false, budget, ..Settings::default() }
}

/// Fifty routes, one of which fails on the canary with `bad`; all fail with 1 % anyway.
fn fifty_routes(budget: Budget, bad: f64, seconds: i64, seed: u64) -> Option<Alarm> {
    let mut rng = Rng::new(seed);
    let mut comparison = Comparison::new(&with(budget));
    comparison.weight(0.1);
    (1..=seconds * 100).find_map(|number| {
        let arm = if rng.uniform() < 0.1 { Arm::Canary } else { Arm::Baseline };
        let route = (rng.uniform() * 50.0) as u64;
        let rate = if arm == Arm::Canary && route == 17 { bad } else { 0.01 };
        let failed = rng.uniform() < rate;
        let counts = (u64::from(!failed), u64::from(failed));
        comparison.requests(number * 10, arm, counts.0, counts.1, &[]);
        comparison.route(number * 10, arm, route, counts.0, counts.1);
        comparison.settle().cloned()
    })
}

#[test]
fn one_bad_route_of_fifty_is_found_where_the_sum_shows_nothing() {
    let by_route = Budget { routes: 0.25, ..Budget::default() };
    let found = |budget, seed| fifty_routes(budget, 0.5, 60, seed).is_some();
    let in_sum = (1..=5).filter(|&seed| found(Budget::default(), seed)).count();
    let in_routes = (1..=5).filter(|&seed| found(by_route, seed)).count();
    assert_eq!((in_sum, in_routes), (0, 5));
    let alarm = fifty_routes(by_route, 0.5, 60, 1).unwrap();
    assert!(alarm.evidence.starts_with("canary errors on one route "), "{}", alarm.evidence);
}

#[test]
fn equal_routes_are_left_alone() {
    let by_route = Budget { routes: 0.25, ..Budget::default() };
    assert!((1..=10).all(|seed| fifty_routes(by_route, 0.01, 120, seed).is_none()));
}

/// A service without a baseline beside it, 10 requests a second, against a past of 0.1 %.
fn alone(rate: f64, seconds: i64, seed: u64) -> Judge {
    let settings = with(Budget { history: 0.5, ..Budget::default() });
    // Neither limit of the fixed thresholds is near.
    let mut rng = Rng::new(seed);
    let mut judge = Judge::new(settings, 0);
    judge.observe(Event::Reference { at_ms: 0, total: 50_000, failed: 50 });
    for second in 1..=seconds {
        let failed = (0..10).filter(|_| rng.uniform() < rate).count() as u64;
        let ok = 10 - failed;
        judge.observe(Event::Requests {
            at_ms: second * 1_000,
            arm: Arm::Canary,
            ok,
            failed,
            latency: &[],
        });
    }
    judge
}

#[test]
fn without_a_baseline_the_past_is_the_measure() {
    for seed in 1..=5 {
        let verdict = alone(0.02, 600, seed).verdict(600_000);
        assert_eq!(verdict.cause, Some(Cause::Analysis));
        let evidence = verdict.evidence;
        assert!(evidence.contains("before 0.1 % of 50000"), "{evidence}");
        // A bound against the past is no bound against chance alone.
        assert!(evidence.ends_with(", as far as the past is a measure"), "{evidence}");
        assert!(!alone(0.001, 1_800, seed).verdict(1_800_000).is_failing());
    }
}

#[test]
fn a_fault_that_begins_with_all_the_traffic_is_found() {
    let run = |bad: f64, seed: u64| {
        let mut rng = Rng::new(seed);
        let mut comparison = Comparison::new(&Settings::default());
        let mut last = -1.0;
        (1..=60_000i64).find_map(|number| {
            let share = if number < 30_000 { 0.5 } else { 1.0 };
            if share != last {
                comparison.weight(share);
                last = share;
            }
            let arm = if rng.uniform() < share { Arm::Canary } else { Arm::Baseline };
            let rate = if share == 1.0 { bad } else { 0.002 };
            let failed = u64::from(rng.uniform() < rate);
            comparison.requests(number * 10, arm, 1 - failed, failed, &[]);
            comparison.settle().map(|_| number)
        })
    };
    for seed in 1..=5 {
        assert!(run(0.05, seed).is_some_and(|number| (30_000..31_000).contains(&number)));
        // Twice as many, as at another hour of the day, are no reason.
        assert_eq!(run(0.004, seed), None);
    }
}

#[test]
fn a_short_past_is_no_reference() {
    let mut comparison = Comparison::new(&with(Budget { history: 0.5, ..Budget::default() }));
    comparison.reference(999, 0);
    for second in 1..60 {
        comparison.requests(second * 1_000, Arm::Canary, 0, 10, &[]);
    }
    assert_eq!(comparison.settle(), None);
}

/// Memory of both sides read every ten seconds; the canary's grows by `growth` a reading.
fn memory(growth: f64, gap: bool, readings: i64, seed: u64) -> Option<Alarm> {
    let mut rng = Rng::new(seed);
    let mut comparison = Comparison::new(&Settings::default());
    let metric =
        comparison.add_metric("memory", Worse::Higher, 0.2).expect("before the first reading");
    comparison.weight(0.1);
    (1..=readings).find_map(|reading| {
        let at_ms = reading * 10_000;
        comparison.requests(at_ms, Arm::Canary, 10, 0, &[]);
        comparison.requests(at_ms, Arm::Baseline, 90, 0, &[]);
        let mut value = |more: f64| 100.0 * (1.0 + more) + 10.0 * rng.normal();
        let (canary, baseline) = (value(growth * reading as f64), value(0.0));
        let baseline = (!gap).then_some(baseline);
        comparison.metric(at_ms, metric, Some(canary), baseline);
        comparison.settle().cloned()
    })
}

#[test]
fn a_leak_is_found_and_a_gap_is_no_evidence() {
    for seed in 1..=5 {
        let alarm = memory(0.02, false, 120, seed).unwrap();
        assert_eq!(alarm.metric, "memory");
        assert!(
            alarm
                .evidence
                .starts_with("canary's memory lay above the baseline's by more than 20 %"),
            "{}",
            alarm.evidence
        );
        assert!(alarm.evidence.ends_with(", if its readings are independent"), "{alarm:?}");
        assert_eq!(memory(0.0, false, 360, seed), None);
        assert_eq!(memory(0.02, true, 360, seed), None);
    }
}

#[test]
fn twenty_metrics_at_once_stay_within_the_budget() {
    let settings = Settings { false_rollback_probability: 0.05, ..Settings::default() };
    let one = |seed: u64| {
        let mut rng = Rng::new(seed);
        let mut comparison = Comparison::new(&settings);
        let metrics: Vec<_> = (0..20)
            .filter_map(|n| comparison.add_metric(&format!("m{n}"), Worse::Lower, 0.0))
            .collect();
        comparison.weight(0.5);
        (1..=200).any(|reading| {
            for &metric in &metrics {
                let (canary, baseline) = (rng.normal(), rng.normal());
                comparison.metric(reading * 10_000, metric, Some(canary), Some(baseline));
            }
            comparison.settle().is_some()
        })
    };
    let seen = (1..=400).filter(|&seed| one(seed)).count() as u64;
    assert!(shows_at_most(0.05, seen, 400), "{seen} of 400");
}

#[test]
fn metrics_are_made_known_before_the_first_reading() {
    let mut comparison = Comparison::new(&Settings::default());
    assert!(comparison.add_metric("early", Worse::Higher, 0.1).is_some());
    comparison.weight(0.1);
    comparison.requests(0, Arm::Baseline, 1, 0, &[]);
    assert_eq!(comparison.add_metric("late", Worse::Higher, 0.1), None);
}

#[test]
fn the_parts_of_the_budget_sum_to_one() {
    let settings = Settings {
        budget: Budget { routes: 0.25, history: 0.25, ..Budget::default() },
        ..Settings::default()
    };
    for metrics in 0..3 {
        let mut comparison = Comparison::new(&settings);
        for number in 0..metrics {
            comparison.add_metric(&format!("m{number}"), Worse::Higher, 0.1);
        }
        let parts = comparison.parts();
        assert_eq!(parts.len(), 4 + metrics);
        assert!((parts.iter().map(|part| part.weight).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((comparison.e_values().combined - 1.0).abs() < 1e-12);
    }
}

/// Requests of the canary until it is shown to be no worse, at 10 % and in steps of 1000 requests.
fn until_shown(canary_rate: f64, canary_factor: f64, seed: u64) -> Option<u64> {
    let mut rng = Rng::new(seed);
    let mut judge = Judge::new(Settings { latency_warm_up_ms: 0, ..Settings::default() }, 0);
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.1 });
    (1..=40_000i64).find_map(|number| {
        let canary = rng.uniform() < 0.1;
        let (arm, rate, factor) = if canary {
            (Arm::Canary, canary_rate, canary_factor)
        } else {
            (Arm::Baseline, 0.001, 1.0)
        };
        let failed = u64::from(rng.uniform() < rate);
        let us = (factor * 1e5 * (0.4 * rng.normal()).exp()) as u64;
        let latency = [(us, 1 - failed)];
        let at_ms = number * 10;
        judge.observe(Event::Requests { at_ms, arm, ok: 1 - failed, failed, latency: &latency });
        judge.shows_no_worse().then(|| judge.requests(Arm::Canary).0)
    })
}

#[test]
fn an_equal_canary_is_shown_to_be_no_worse_and_a_worse_one_is_not() {
    let mut needed: Vec<u64> = (1..=5).filter_map(|seed| until_shown(0.001, 1.0, seed)).collect();
    needed.sort_unstable();
    assert_eq!(needed.len(), 5);
    assert!((300..3_000).contains(&needed[2]), "{needed:?}");
    assert!((1..=5).all(|seed| until_shown(0.05, 1.0, seed).is_none()));
    assert!((1..=5).all(|seed| until_shown(0.001, 2.0, seed).is_none()));
}
