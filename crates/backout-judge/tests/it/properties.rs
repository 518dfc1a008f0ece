//! What holds for all input.

use backout_judge::sequential::Comparison;
use backout_judge::{
    Arm, Budget, CheckOutcome, CheckSample, Event, Judge, Level, MetricId, Settings, Shape, Worse,
};
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

/// Readings of both sides at any share, none of which gives the canary more requests than it should have.
fn fair_readings() -> impl Strategy<Value = (f64, Vec<Reading>)> {
    (0.01f64..0.95, readings(25)).prop_map(|(share, mut all)| {
        for reading in &mut all {
            let canary = (reading[0] + reading[1]) as f64;
            let due = (canary * (1.0 - share) / share).ceil() as u64;
            reading[2] = reading[2].max(due.saturating_sub(reading[3]));
        }
        (share, all)
    })
}

/// The e-value of latency alone: milliseconds of answers of canary and baseline, a reading each second.
fn slowness(share: f64, readings: &[(Vec<u64>, Vec<u64>)]) -> f64 {
    let settings = Settings {
        compare_errors: false,
        compare_latency: true,
        harmless_latency_increase: 0.0,
        ..settings()
    };
    let mut comparison = Comparison::new(&settings);
    comparison.weight(share);
    for (second, (canary, baseline)) in readings.iter().enumerate() {
        let at_ms = second as i64 * 1_000;
        let timed = |all: &[u64]| all.iter().map(|ms| (ms * 1_000, 1)).collect::<Vec<_>>();
        let (own, other) = (timed(canary), timed(baseline));
        comparison.requests(at_ms, Arm::Canary, own.len() as u64, 0, &own);
        comparison.requests(at_ms, Arm::Baseline, other.len() as u64, 0, &other);
    }
    comparison.settle();
    comparison.e_values().combined
}

fn answers(most: usize) -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![1u64..200, Just(u64::MAX / 2_000)], 1..most)
}

/// Any number there is, odd ones often.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        -10.0f64..10.0,
        Just(0.0),
        Just(f64::MAX),
        Just(f64::MIN),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
    ]
}

/// Something that a judge is shown, of every kind but checks and exits, which carry no figures.
#[derive(Debug, Clone)]
struct Shown {
    kind: u8,
    at_ms: i64,
    arm: Arm,
    counts: [u64; 3],
    values: [Option<f64>; 2],
}

fn shown() -> impl Strategy<Value = Shown> {
    let at_ms = prop_oneof![any::<i64>(), 0i64..100_000];
    let count = || prop_oneof![any::<u64>(), 0u64..50];
    let value = || prop::option::weighted(0.8, number());
    (0u8..9, at_ms, arm(), [count(), count(), count()], [value(), value()])
        .prop_map(|(kind, at_ms, arm, counts, values)| Shown { kind, at_ms, arm, counts, values })
}

fn show(judge: &mut Judge, metrics: &[MetricId], shown: &Shown) {
    let Shown { kind, at_ms, arm, counts: [ok, failed, us], values: [canary, baseline] } = *shown;
    let latency = [(us, ok), (ok, failed)];
    let session = us % 7;
    judge.observe(match kind {
        0 => Event::Weight { at_ms, canary_share: canary.unwrap_or(0.3) },
        1 => Event::Requests { at_ms, arm, ok, failed, latency: &latency },
        2 => Event::Session { at_ms, arm, session, ok: ok % 2 == 0, latency_us: Some(us) },
        3 => Event::Unattributed { at_ms, arm, ok, failed, latency: &latency },
        4 => Event::Unread { at_ms, arm },
        5 => Event::Route { at_ms, arm, route: us, ok, failed },
        6 => Event::Reference { at_ms, total: ok, failed },
        7 => Event::Synthetic { at_ms, canary: (ok, failed), baseline: Some((failed, ok)) },
        _ => {
            let metric = metrics[us as usize % metrics.len()];
            Event::Metric { at_ms, metric, canary, baseline }
        }
    });
}

proptest! {
    #[test]
    fn at_any_share_errors_speak_against_their_own_side(
        (share, readings) in fair_readings(), at in any::<prop::sample::Index>(),
    ) {
        let settings = Settings { harmless_error_rate: 0.001, ..settings() };
        let before = e_value(&settings, share, &readings);
        let index = at.index(readings.len());
        let turned = |ok: usize| {
            let mut worse = readings.clone();
            (worse[index][ok] > 0).then(|| {
                worse[index][ok] -= 1;
                worse[index][ok + 1] += 1;
                e_value(&settings, share, &worse)
            })
        };
        if let Some(canary) = turned(0) {
            prop_assert!(canary >= before * (1.0 - 1e-9), "{canary} after {before}");
        }
        if let Some(baseline) = turned(2) {
            prop_assert!(baseline <= before * (1.0 + 1e-9), "{baseline} after {before}");
        }
    }

    #[test]
    fn a_slower_answer_of_the_canary_never_speaks_for_it(
        readings in prop::collection::vec((answers(4), answers(30)), 2..25),
        at in any::<[prop::sample::Index; 2]>(), more in 1u64..1_000, share in 0.05f64..0.6,
    ) {
        let before = slowness(share, &readings);
        let mut slower = readings.clone();
        let index = at[0].index(slower.len());
        let canary = &mut slower[index].0;
        let which = at[1].index(canary.len());
        canary[which] += more;
        let after = slowness(share, &slower);
        prop_assert!(after >= before * (1.0 - 1e-9), "{after} after {before}");
    }

    #[test]
    fn within_a_weight_period_the_order_does_not_matter_at_any_share(
        (share, readings) in fair_readings(), seed in any::<u64>(),
    ) {
        // The part that counts from the start; restarts are about when things happened.
        let mut settings = Settings { harmless_error_rate: 0.001, ..settings() };
        settings.budget.from_start = 1.0;
        let mut shuffled = readings.clone();
        shuffled.sort_by_key(|reading| {
            reading.iter().fold(seed, |hash, n| (hash ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15))
        });
        let one = e_value(&settings, share, &readings);
        let other = e_value(&settings, share, &shuffled);
        prop_assert!((one / other - 1.0).abs() < 1e-9 || one == other, "{one} {other}");
    }

    #[test]
    fn whatever_is_shown_every_figure_stays_a_number(
        all in prop::collection::vec(shown(), 1..60), odd in [number(), number(), number(), number()],
    ) {
        let [alpha, harmless, increase, slower] = odd;
        let settings = Settings {
            false_rollback_probability: alpha,
            harmless_error_rate: harmless,
            harmless_error_increase: increase,
            harmless_latency_increase: slower,
            budget: Budget { routes: 0.1, history: 0.1, ..Budget::default() },
            ..Settings::default()
        };
        let mut judge = Judge::new(settings, 0);
        let shapes = [
            Shape::Any,
            Shape::Bounded { min: -1.0, max: 5.0 },
            Shape::Bounded { min: f64::MIN, max: f64::MAX },
            Shape::SubGaussian { sigma: 1e-9 },
        ];
        let metrics: Vec<MetricId> = shapes
            .into_iter()
            .filter_map(|shape| judge.add_shaped_metric("load", Worse::Higher, 0.1, shape))
            .collect();
        for event in &all {
            show(&mut judge, &metrics, event);
            let verdict = judge.verdict(event.at_ms);
            prop_assert!(!verdict.evidence.contains("NaN"), "{}", verdict.evidence);
        }
        let values = judge.comparison().e_values();
        let good = |value: f64| value.is_finite() && value >= 0.0;
        prop_assert!(good(values.combined) && good(values.threshold), "{values:?}");
        prop_assert!(judge.comparison().parts().iter().all(|part| good(part.e_value)));
        prop_assert!(judge.trace().points().iter().all(|point| good(point.1)));
        judge.comparison().errors_to_alarm();
    }

    #[test]
    fn no_budget_takes_nothing_back(readings in readings(40), share in 0.1f64..0.6) {
        // Nothing is proven to one in a thousand million by so little, and to no number at all by nothing.
        let settings = Settings { false_rollback_probability: f64::NAN, ..settings() };
        let mut comparison = Comparison::new(&settings);
        comparison.weight(share);
        let [ok, failed, other_ok, other_failed] = readings[0];
        comparison.requests(0, Arm::Canary, ok, failed.min(1), &[]);
        comparison.requests(0, Arm::Baseline, other_ok, other_failed, &[]);
        prop_assert_eq!(comparison.settle(), None);
    }

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

/// So many with latencies, routes and a past, and shown to the whole judge.
#[test]
fn a_judge_survives_ten_thousand_million_events_and_still_sees() {
    let budget = Budget { routes: 0.15, ..Budget::default() };
    let mut judge =
        Judge::new(Settings { budget, latency_warm_up_ms: 0, ..Settings::default() }, 0);
    judge.observe(Event::Reference { at_ms: 0, total: 1 << 40, failed: 1 << 33 });
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.1 });
    let second = |judge: &mut Judge, at_ms: i64, [ok, failed]: [u64; 2], us: u64| {
        for (arm, ok, failed, us) in
            [(Arm::Canary, ok, failed, us), (Arm::Baseline, 891_000, 9_000, 20_000)]
        {
            let latency = [(us, ok / 2), (us * 2, ok - ok / 2)];
            judge.observe(Event::Requests { at_ms, arm, ok, failed, latency: &latency });
            judge.observe(Event::Route { at_ms, arm, route: 1, ok, failed });
        }
    };
    for at in 1..=10_000i64 {
        second(&mut judge, at * 1_000, [99_000, 1_000], 20_000);
    }
    let verdict = judge.verdict(10_000_000);
    assert!(!verdict.is_failing(), "{verdict:?}");
    let values = judge.comparison().e_values();
    assert!(values.combined.is_finite() && values.combined < 10.0, "{values:?}");
    let mut slower = judge.clone();
    second(&mut slower, 10_001_000, [99_000, 1_000], 60_000);
    assert_eq!(slower.verdict(10_001_000).metric.as_deref(), Some("latency"));
    second(&mut judge, 10_001_000, [50_000, 50_000], 20_000);
    assert_eq!(judge.verdict(10_001_000).metric.as_deref(), Some("errors"));
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
