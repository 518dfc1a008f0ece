//! What holds for all input.

use backout_judge::sequential::Comparison;
use backout_judge::{Arm, CheckOutcome, CheckSample, Event, Judge, Level, Settings};
use proptest::prelude::*;

fn settings() -> Settings {
    Settings {
        latency_warm_up_ms: 0,
        compare_latency: false,
        false_rollback_probability: 1e-9,
        ..Settings::default()
    }
}

fn arm() -> impl Strategy<Value = Arm> {
    prop_oneof![Just(Arm::Canary), Just(Arm::Baseline)]
}

/// A reading of both sides: ok and failed of the canary, then of the baseline.
type Reading = [u64; 4];

fn readings(most: u64) -> impl Strategy<Value = Vec<Reading>> {
    let ok = 0..most;
    let failed = 0..most / 4 + 1;
    prop::collection::vec((ok.clone(), failed.clone(), ok, failed), 1..20)
        .prop_map(|all| all.into_iter().map(|(a, b, c, d)| [a, b, c, d]).collect())
}

/// The e-value after these readings, one each second.
fn e_value(settings: &Settings, share: f64, readings: &[Reading]) -> f64 {
    let mut comparison = Comparison::new(settings);
    comparison.weight(share);
    for (second, [ok, failed, other_ok, other_failed]) in readings.iter().enumerate() {
        let at_ms = second as i64 * 1_000;
        comparison.requests(at_ms, Arm::Canary, *ok, *failed, &[]);
        comparison.requests(at_ms, Arm::Baseline, *other_ok, *other_failed, &[]);
    }
    comparison.settle();
    comparison.e_values().combined
}

proptest! {
    #[test]
    fn one_more_error_of_the_canary_never_speaks_for_it(
        readings in readings(40), at in any::<prop::sample::Index>(), share in 0.3f64..0.6,
    ) {
        let settings = Settings { harmless_error_rate: 0.001, ..settings() };
        let before = e_value(&settings, share, &readings);
        let mut worse = readings.clone();
        let index = at.index(worse.len());
        // One request that went well fails instead.
        prop_assume!(worse[index][0] > 0);
        worse[index][0] -= 1;
        worse[index][1] += 1;
        prop_assert!(e_value(&settings, share, &worse) >= before * (1.0 - 1e-9));
    }

    #[test]
    fn one_more_error_of_the_baseline_never_speaks_against_the_canary(
        readings in readings(40), at in any::<prop::sample::Index>(), share in 0.3f64..0.6,
    ) {
        let before = e_value(&settings(), share, &readings);
        let mut worse = readings.clone();
        let index = at.index(worse.len());
        prop_assume!(worse[index][2] > 0);
        worse[index][2] -= 1;
        worse[index][3] += 1;
        prop_assert!(e_value(&settings(), share, &worse) <= before * (1.0 + 1e-9));
    }

    #[test]
    fn the_order_within_a_weight_period_does_not_matter(
        (readings, shuffled) in readings(12).prop_flat_map(|all| {
            (Just(all.clone()), Just(all).prop_shuffle())
        }),
    ) {
        // The part that counts from the start; restarts are about when things happened.
        let mut settings = settings();
        settings.budget.from_start = 1.0;
        // A share of 0.9, so that no reading has far more canary requests than announced.
        let one = e_value(&settings, 0.9, &readings);
        let other = e_value(&settings, 0.9, &shuffled);
        prop_assert!((one / other - 1.0).abs() < 1e-9 || one == other, "{one} {other}");
    }

    #[test]
    fn sides_of_a_reading_may_come_in_any_order_and_in_parts(
        readings in readings(60), share in 0.01f64..0.9,
    ) {
        let whole = e_value(&settings(), share, &readings);
        let mut comparison = Comparison::new(&settings());
        comparison.weight(share);
        for (second, [ok, failed, other_ok, other_failed]) in readings.iter().enumerate() {
            let at_ms = second as i64 * 1_000;
            comparison.requests(at_ms, Arm::Baseline, 0, *other_failed, &[]);
            comparison.requests(at_ms, Arm::Canary, 0, *failed, &[]);
            comparison.requests(at_ms, Arm::Canary, *ok, 0, &[]);
            comparison.requests(at_ms, Arm::Baseline, *other_ok, 0, &[]);
        }
        comparison.settle();
        prop_assert_eq!(comparison.e_values().combined, whole);
    }

    #[test]
    fn nothing_overflows_or_stops_being_a_number(
        events in prop::collection::vec(
            (arm(), any::<u64>(), any::<u64>(), any::<u64>(), any::<i64>(), -1.0f64..2.0), 1..60),
        harmless in 0.0f64..1.0, alpha in -1.0f64..2.0,
    ) {
        let settings = Settings {
            harmless_error_rate: harmless,
            false_rollback_probability: alpha,
            ..Settings::default()
        };
        let mut judge = Judge::new(settings, 0);
        for (arm, ok, failed, us, at_ms, share) in events {
            judge.observe(Event::Weight { at_ms, canary_share: share });
            let latency = [(us, ok), (ok, failed)];
            judge.observe(Event::Requests { at_ms, arm, ok, failed, latency: &latency });
            let values = judge.comparison().e_values();
            prop_assert!(values.combined.is_finite() && values.combined >= 0.0, "{values:?}");
            judge.verdict(at_ms);
        }
    }

    #[test]
    fn failing_stays_failing(
        outcomes in prop::collection::vec(0u8..5, 1..60), fails in 0u64..30, share in 0.01f64..0.5,
    ) {
        let mut judge = Judge::new(Settings::default(), 0);
        let check = judge.add_check("http", "web", Arm::Canary, 1_000);
        judge.observe(Event::Weight { at_ms: 0, canary_share: share });
        let mut failing = false;
        for (second, outcome) in outcomes.iter().enumerate() {
            let at_ms = second as i64 * 1_000;
            let words = "words".to_owned();
            let outcome = match outcome {
                0 => CheckOutcome::Pass,
                1 => CheckOutcome::Warn(words),
                2 => CheckOutcome::Fail(words),
                3 => CheckOutcome::Starting(words),
                _ => CheckOutcome::Unreachable(words),
            };
            let sample = CheckSample::new(outcome, 1.0);
            judge.observe(Event::Check { at_ms, arm: Arm::Canary, check, sample });
            let failed = if second % 7 == 0 { fails } else { 0 };
            judge.observe(Event::Requests { at_ms, arm: Arm::Canary, ok: 50, failed, latency: &[] });
            judge.observe(Event::Requests { at_ms, arm: Arm::Baseline, ok: 500, failed: 0, latency: &[] });
            let now = judge.verdict(at_ms).level == Level::Failing;
            prop_assert!(now || !failing, "second {second}");
            failing = now;
        }
    }
}

#[test]
fn ten_thousand_million_events_are_survived() {
    let mut comparison = Comparison::new(&settings());
    comparison.weight(0.1);
    for second in 0..10_000i64 {
        comparison.requests(second * 1_000, Arm::Canary, 99_000, 1_000, &[]);
        comparison.requests(second * 1_000, Arm::Baseline, 891_000, 9_000, &[]);
        assert!(comparison.settle().is_none());
    }
    let value = comparison.e_values().combined;
    assert!(value.is_finite() && (0.0..10.0).contains(&value), "{value}");
    // And it still sees what comes next.
    comparison.requests(10_000_000, Arm::Canary, 50_000, 50_000, &[]);
    comparison.requests(10_000_000, Arm::Baseline, 891_000, 9_000, &[]);
    assert!(comparison.settle().is_some());
}
