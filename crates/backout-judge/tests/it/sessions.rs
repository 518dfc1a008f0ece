//! Sticky routing: what sessions are worth, and requests that no share can be told of.

use crate::sim::Rng;
use backout_judge::sequential::Comparison;
use backout_judge::{Arm, Budget, Cause, Event, Judge, Settings};

fn settings() -> Settings {
    Settings {
        harmless_error_rate: 0.0,
        harmless_latency_increase: 0.0,
        latency_warm_up_ms: 0,
        ..Settings::default()
    }
}

fn with_baseline(share: f64) -> Comparison {
    let mut comparison = Comparison::new(&settings());
    comparison.weight(share);
    for number in 0..500u64 {
        comparison.session_request(
            number as i64,
            Arm::Baseline,
            1_000 + number,
            true,
            Some(50_000),
        );
    }
    comparison.settle();
    comparison
}

#[test]
fn whatever_one_session_does_is_no_evidence() {
    for share in [0.01, 0.05, 0.5] {
        let mut comparison = with_baseline(share);
        for number in 0..2_000i64 {
            comparison.session_request(
                1_000 + number,
                Arm::Canary,
                7,
                number % 2 == 0,
                Some(9_000_000),
            );
            comparison.settle();
            // Restarts that begin meanwhile are worth what they cost.
            assert!(comparison.e_values().combined <= 1.0 + 1e-9, "{:?}", comparison.e_values());
        }
    }
}

#[test]
fn one_more_session_than_requests_is_enough() {
    let fewest = |by_session: bool| {
        let mut comparison = with_baseline(0.05);
        (1..20u64).find(|number| {
            let at_ms = 1_000 + *number as i64;
            comparison.session_request(
                at_ms,
                Arm::Canary,
                if by_session { *number } else { 1 },
                false,
                None,
            );
            comparison.settle().is_some()
        })
    };
    let requests = || {
        let mut comparison = Comparison::new(&settings());
        comparison.weight(0.05);
        (1..20).find(|number| {
            comparison.requests(*number as i64, Arm::Canary, 0, 1, &[]);
            comparison.settle().is_some()
        })
    };
    assert_eq!(fewest(true), requests().map(|fewest: u64| fewest + 1));
    assert_eq!(fewest(false), None);
}

/// Sticky sessions of which one of the canary's fails and is slow all the time; how often it comes to an alarm.
#[test]
fn the_bound_holds_beside_the_worst_of_sessions() {
    let alpha = 0.2;
    let settings = Settings { false_rollback_probability: alpha, ..settings() };
    let alarms = (1..=400).filter(|seed| {
        let mut rng = Rng::new(*seed);
        let mut comparison = Comparison::new(&settings);
        comparison.weight(0.1);
        (1..=2_000i64).any(|number| {
            let abuse = rng.uniform() < 0.3;
            let session = if abuse { 0 } else { 1 + (rng.uniform() * 300.0) as u64 };
            let drawn = Rng::new(seed * 1_000 + session).uniform() < 0.1;
            let arm = if abuse || drawn { Arm::Canary } else { Arm::Baseline };
            let ok = rng.uniform() >= if abuse { 0.5 } else { 0.02 };
            let us = if abuse { 900_000 } else { 50_000 + (rng.uniform() * 1e5) as u64 };
            comparison.session_request(number * 10, arm, session, ok, Some(us));
            comparison.settle().is_some()
        })
    });
    // 80 would be the bound; 105 of 400 at that rate is one in a thousand.
    let count = alarms.count();
    assert!(count < 105, "{count}");
}

fn session(judge: &mut Judge, at_ms: i64, arm: Arm, session: u64, us: u64) {
    judge.observe(Event::Session { at_ms, arm, session, ok: true, latency_us: Some(us) });
}

#[test]
fn a_session_is_slow_once_by_fixed_limits() {
    let mut judge = Judge::new(Settings { sticky_sessions: true, ..Settings::default() }, 0);
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.05 });
    for number in 0..3_000 {
        session(&mut judge, number * 10, Arm::Baseline, 100 + number as u64, 50_000);
        session(&mut judge, number * 10, Arm::Canary, 1, 9_000_000);
    }
    assert!(!judge.verdict(30_000).is_failing(), "{:?}", judge.verdict(30_000));
    for number in 0..100 {
        session(&mut judge, 30_000 + number * 10, Arm::Canary, 90_000 + number as u64, 9_000_000);
    }
    assert!(judge.verdict(31_000).is_failing());
}

#[test]
fn sessions_end_a_gap_and_one_busy_client_is_no_silence() {
    let mut judge = Judge::new(Settings::default(), 0);
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.3 });
    session(&mut judge, 1, Arm::Canary, 1, 50_000);
    judge.observe(Event::Unread { at_ms: 2, arm: Arm::Canary });
    // Sticky: for a long time only clients of the baseline come.
    for number in 0..2_000 {
        session(&mut judge, 1_000 + number * 10, Arm::Baseline, 1_000 + number as u64, 50_000);
    }
    assert!(
        judge.verdict(21_000).missing.is_some_and(|missing| missing.contains("could not be read"))
    );
    session(&mut judge, 21_000, Arm::Canary, 2, 50_000);
    let verdict = judge.verdict(21_000);
    assert!(!verdict.is_failing(), "{verdict:?}");
    assert!(verdict.missing.is_none_or(|missing| !missing.contains("could not be read")));
}

fn requests(judge: &mut Judge, at_ms: i64, arm: Arm, ok: u64, failed: u64, attributed: bool) {
    judge.observe(if attributed {
        Event::Requests { at_ms, arm, ok, failed, latency: &[] }
    } else {
        Event::Unattributed { at_ms, arm, ok, failed, latency: &[] }
    });
}

#[test]
fn what_no_share_can_be_told_of_is_compared_with_nothing_and_still_limited() {
    let one = |attributed: bool, canary: (u64, u64)| {
        let mut judge = Judge::new(Settings { budget: Budget::default(), ..settings() }, 0);
        judge.observe(Event::Weight { at_ms: 0, canary_share: 0.05 });
        requests(&mut judge, 1_000, Arm::Canary, canary.0, canary.1, attributed);
        requests(&mut judge, 1_000, Arm::Baseline, 2_000, 1, attributed);
        judge.verdict(1_000).cause
    };
    // Four errors of the canary, too few for a limit.
    assert_eq!(one(true, (96, 4)), Some(Cause::Analysis));
    assert_eq!(one(false, (96, 4)), None);
    assert_eq!(one(false, (60, 40)), Some(Cause::Threshold));
}

#[test]
fn half_a_reading_that_waits_is_given_up_with_the_other_half() {
    let mut judge = Judge::new(settings(), 0);
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.05 });
    judge.observe(Event::Unread { at_ms: 1_000, arm: Arm::Baseline });
    requests(&mut judge, 1_000, Arm::Canary, 96, 4, true);
    // The baseline began anew meanwhile: how many errors it had nobody knows.
    requests(&mut judge, 2_000, Arm::Canary, 100, 0, false);
    requests(&mut judge, 2_000, Arm::Baseline, 1_900, 0, false);
    let verdict = judge.verdict(2_000);
    assert!(!verdict.is_failing(), "{verdict:?}");
    assert_eq!(judge.comparison().e_values().errors, Some(1.0));
    // And what comes then is compared again.
    requests(&mut judge, 3_000, Arm::Canary, 96, 4, true);
    requests(&mut judge, 3_000, Arm::Baseline, 1_900, 0, true);
    assert_eq!(judge.verdict(3_000).cause, Some(Cause::Analysis));
}
