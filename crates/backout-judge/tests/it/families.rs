//! Situations it must fail in, soon, and situations it must not.

use crate::sim::{Answer, Rng, run};
use backout_judge::sequential::{Alarm, Comparison};
use backout_judge::{Arm, Settings};

fn settings() -> Settings {
    Settings { latency_warm_up_ms: 0, ..Settings::default() }
}

/// The alarms of ten rollouts at 10 % and 100 requests a second for at most `seconds`.
fn ten(
    settings: &Settings,
    seconds: u64,
    world: impl Fn(&mut Rng, Arm, i64) -> Answer,
) -> Vec<Alarm> {
    let one = |seed| {
        let mut comparison = Comparison::new(settings);
        run(&mut comparison, &mut Rng::new(seed), |_| 0.1, seconds * 100, 10, &world)
    };
    (1..=10).filter_map(one).collect()
}

/// A baseline with 0.1 % errors and log-normal latency, and a canary made of it.
fn world(
    canary: impl Fn(&mut Rng, i64, Answer) -> Answer,
) -> impl Fn(&mut Rng, Arm, i64) -> Answer {
    move |rng, arm, at_ms| {
        let answer = Answer {
            failed: rng.uniform() < 0.001,
            latency_ms: 100.0 * (0.4 * rng.normal()).exp(),
        };
        match arm {
            Arm::Canary => canary(rng, at_ms, answer),
            Arm::Baseline => answer,
        }
    }
}

fn errors(rate: f64) -> impl Fn(&mut Rng, i64, Answer) -> Answer {
    move |rng, _, answer| Answer { failed: answer.failed || rng.uniform() < rate, ..answer }
}

fn median_requests(mut alarms: Vec<Alarm>) -> u64 {
    alarms.sort_by_key(|alarm| alarm.canary_requests);
    alarms[alarms.len() / 2].canary_requests
}

#[test]
fn more_errors_are_found_soon() {
    for (rate, seconds, at_most) in
        [(1.0, 10, 4), (0.5, 20, 10), (0.05, 120, 120), (0.01, 600, 1_200)]
    {
        let alarms = ten(&settings(), seconds, world(errors(rate)));
        assert_eq!(alarms.len(), 10, "+{rate}");
        assert!(alarms.iter().all(|alarm| alarm.metric == "errors"));
        let median = median_requests(alarms);
        assert!(median <= at_most, "+{rate}: {median}");
    }
}

#[test]
fn slower_answers_are_found_soon() {
    let slower = |factor: f64| {
        world(move |_, _, answer| Answer { latency_ms: factor * answer.latency_ms, ..answer })
    };
    for (factor, at_most) in [(2.0, 60), (1.5, 250), (1.25, 2_000)] {
        let alarms = ten(&settings(), 600, slower(factor));
        assert_eq!(alarms.len(), 10, "{factor}");
        assert!(alarms.iter().all(|alarm| alarm.metric == "latency"));
        let median = median_requests(alarms);
        assert!(median <= at_most, "{factor}: {median}");
    }
}

#[test]
fn slowness_of_few_requests_is_found() {
    let tail = world(|rng, _, answer| {
        let more_ms = if rng.uniform() < 0.02 { 1_000.0 } else { 0.0 };
        Answer { latency_ms: answer.latency_ms + more_ms, ..answer }
    });
    let alarms = ten(&settings(), 600, tail);
    assert_eq!(alarms.len(), 10);
    assert!(alarms[0].evidence.contains("baseline's p99"), "{}", alarms[0].evidence);
    let bimodal = world(|rng, _, answer| {
        let factor = if rng.uniform() < 0.2 { 4.0 } else { 1.0 };
        Answer { latency_ms: factor * answer.latency_ms, ..answer }
    });
    assert_eq!(ten(&settings(), 120, bimodal).len(), 10);
}

#[test]
fn better_errors_do_not_hide_worse_latency() {
    let world = |rng: &mut Rng, arm: Arm, _: i64| {
        let canary = arm == Arm::Canary;
        Answer {
            failed: !canary && rng.uniform() < 0.05,
            latency_ms: if canary { 180.0 } else { 100.0 } * (0.4 * rng.normal()).exp(),
        }
    };
    let alarms = ten(&settings(), 120, world);
    assert_eq!(alarms.len(), 10);
    assert!(alarms.iter().all(|alarm| alarm.metric == "latency"));
}

#[test]
fn a_fault_that_begins_late_is_found() {
    let onset_ms = 5 * 60_000;
    let late = world(move |rng, at_ms, answer| Answer {
        failed: answer.failed || (at_ms > onset_ms && rng.uniform() < 0.05),
        ..answer
    });
    let alarms = ten(&settings(), 420, late);
    assert_eq!(alarms.len(), 10);
    // 30 000 requests before, 3 000 of them the canary's; a fresh start needs about 55.
    let median = median_requests(alarms);
    assert!(median < 3_000 + 250, "{median}");
}

#[test]
fn a_late_fault_is_told_by_recent_figures() {
    let onset_ms = 20 * 60_000;
    let late = world(move |rng, at_ms, answer| Answer {
        failed: at_ms > onset_ms && (answer.failed || rng.uniform() < 0.5),
        ..answer
    });
    let mut comparison = Comparison::new(&settings());
    let alarm = run(&mut comparison, &mut Rng::new(3), |_| 0.1, 130_000, 10, late).unwrap();
    assert!(alarm.evidence.contains(" in the last 5 min;"), "{}", alarm.evidence);
}

#[test]
fn harmless_differences_are_left_alone() {
    // 0.03 % errors beside none, and 3 % slower, at many requests.
    let world = |rng: &mut Rng, arm: Arm, _: i64| {
        let canary = arm == Arm::Canary;
        Answer {
            failed: canary && rng.uniform() < 0.0003,
            latency_ms: if canary { 103.0 } else { 100.0 } * (0.4 * rng.normal()).exp(),
        }
    };
    assert_eq!(ten(&settings(), 600, world), []);
    let strict = Settings { harmless_latency_increase: 0.0, ..settings() };
    assert!(ten(&strict, 2_000, world).len() > 2, "the difference itself can be seen");
}

#[test]
fn a_fault_of_both_sides_is_left_alone() {
    let world = |rng: &mut Rng, _: Arm, at_ms: i64| {
        let bad = (60_000..90_000).contains(&at_ms);
        Answer {
            failed: rng.uniform() < if bad { 0.3 } else { 0.01 },
            latency_ms: if bad { 2_000.0 } else { 100.0 } * (0.4 * rng.normal()).exp(),
        }
    };
    assert_eq!(ten(&settings(), 180, world), []);
}

#[test]
fn a_cold_start_is_forgiven_only_while_it_warms_up() {
    let settings = Settings { warm_up_ms: 30_000, latency_warm_up_ms: 30_000, ..settings() };
    let cold = |until_ms: i64| {
        world(move |rng, at_ms, answer| {
            let cold = at_ms < until_ms;
            Answer {
                failed: answer.failed || (cold && rng.uniform() < 0.3),
                latency_ms: if cold { 10.0 } else { 1.0 } * answer.latency_ms,
            }
        })
    };
    assert_eq!(ten(&settings, 120, cold(30_000)), []);
    assert_eq!(ten(&settings, 120, cold(i64::MAX)).len(), 10);
}

#[test]
fn one_busy_client_in_the_canary_is_left_alone() {
    // Sticky: ten times the requests of its share go to the canary, with ordinary errors.
    let one = |seed: u64| {
        let mut rng = Rng::new(seed);
        let mut comparison = Comparison::new(&settings());
        comparison.weight(0.05);
        (1..=120_000i64).find_map(|number| {
            let busy = number > 20_000 && rng.uniform() < 0.5;
            let arm = if busy || rng.uniform() < 0.05 { Arm::Canary } else { Arm::Baseline };
            let failed = rng.uniform() < 0.01;
            comparison.requests(number * 10, arm, u64::from(!failed), u64::from(failed), &[]);
            comparison.settle().cloned()
        })
    };
    assert_eq!((1..=10).filter_map(one).collect::<Vec<_>>(), []);
}

#[test]
fn one_abusive_session_in_the_canary_is_left_alone() {
    let one = |seed: u64| {
        let mut rng = Rng::new(seed);
        let mut comparison = Comparison::new(&settings());
        comparison.weight(0.05);
        (1..=100_000i64).find_map(|number| {
            // Session 0 is the canary's, fails half of its requests and is slow.
            let abusive = rng.uniform() < 0.1;
            let session = if abusive { 0 } else { 1 + (rng.uniform() * 1_000.0) as u64 };
            let arm = if session % 20 == 0 { Arm::Canary } else { Arm::Baseline };
            let ok = rng.uniform() >= if abusive { 0.5 } else { 0.002 };
            let us = if abusive { 900_000 } else { 50_000 + (rng.uniform() * 1e5) as u64 };
            comparison.session_request(number * 10, arm, session, ok, Some(us));
            comparison.settle().cloned()
        })
    };
    assert_eq!((1..=10).filter_map(one).collect::<Vec<_>>(), []);
}

#[test]
fn a_bad_release_under_sticky_routing_is_found() {
    let mut rng = Rng::new(5);
    let mut comparison = Comparison::new(&settings());
    comparison.weight(0.05);
    let found = (1..=20_000i64).find_map(|number| {
        let session = (rng.uniform() * 1_000.0) as u64;
        let arm = if session.is_multiple_of(20) { Arm::Canary } else { Arm::Baseline };
        let ok = rng.uniform() >= if arm == Arm::Canary { 0.2 } else { 0.001 };
        comparison.session_request(number * 10, arm, session, ok, None);
        comparison.settle().cloned()
    });
    assert!(found.is_some_and(|alarm| alarm.canary_requests < 100));
}
