//! Families that must not roll back: what goes wrong between the release and the judge.

use super::Family;
use super::healthy::five_minutes;
use crate::eval::rollout::{Rollout, usual};
use backout_judge::{
    Arm, Budget, CheckOutcome, CheckSample, Counter, Event, MetricId, Settings, Shape, Worse,
};

const SECONDS: i64 = 300;
const SHORT: i64 = 200;
const RATE: f64 = 100.0;
const USUAL: f64 = 0.005;

fn strict() -> Settings {
    Settings { harmless_error_rate: 0.0, ..five_minutes() }
}

fn short() -> Settings {
    Settings { watch_ms: SHORT * 1_000, ..strict() }
}

/// The families of this file.
pub const ALL: &[Family] = &[
    Family {
        name: "clock-skew",
        about: "times of readings jitter by half a second, and jump back and on by 30 s",
        settings: short,
        weight: 3,
        play: clock_skew,
    },
    Family {
        name: "counter-reset",
        about: "totals are scraped each second; each side's start again at zero now and then, and what was not scraped is lost",
        settings: strict,
        weight: 3,
        play: counter_reset,
    },
    Family {
        name: "scrape-gap",
        about: "one side can't be read for 10 to 90 s, during which both sides fail more; three times",
        settings: five_minutes,
        weight: 3,
        play: scrape_gap,
    },
    Family {
        name: "twenty-metrics",
        about: "20 metrics of equal distribution beside errors and latency",
        settings: short,
        weight: 6,
        play: twenty_metrics,
    },
    Family {
        name: "known-shapes",
        about: "10 metrics within bounds, with equal means and a canary that is usually above; 10 of known noise",
        settings: short,
        weight: 3,
        play: known_shapes,
    },
    Family {
        name: "source-down",
        about: "metrics have no value, the check can't reach anything and the counters can't be read for the second half",
        settings: five_minutes,
        weight: 3,
        play: source_down,
    },
    Family {
        name: "repair",
        about: "15 s after an abort: the counters still hold the 500 errors of the release before",
        settings: five_minutes,
        weight: 3,
        play: repair,
    },
    Family {
        name: "first-error",
        about: "50 routes, counters that appear with their first error, routes judged one by one",
        settings: by_route,
        weight: 1,
        play: first_error,
    },
];

fn clock_skew(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    let jump_at = rollout.rng.between(20.0, 120.0) as i64;
    let direction = if rollout.rng.chance(0.5) { 30_000 } else { -30_000 };
    while rollout.now_ms < SHORT * 1_000 && !rollout.is_over() {
        let second = rollout.now_ms / 1_000;
        let jumped = (jump_at..jump_at + 60).contains(&second);
        rollout.skew_ms = rollout.rng.between(-500.0, 500.0) as i64;
        rollout.skew_ms += if jumped { direction } else { 0 };
        rollout.arrivals(RATE, |rng, _, _| usual(rng, USUAL));
        rollout.step();
    }
}

/// Scraped totals: ok and failed of each side.
#[derive(Default)]
struct Scraped {
    totals: [[f64; 2]; 2],
    counters: [[Counter; 2]; 2],
}

impl Scraped {
    /// Adds what happened since, and reads both counters of a side. Says whether they had started again at zero.
    fn scrape(&mut self, rollout: &mut Rollout, side: usize, more: [u64; 2]) -> bool {
        let arm = [Arm::Canary, Arm::Baseline][side];
        for (kind, more) in more.into_iter().enumerate() {
            self.totals[side][kind] += more as f64;
            let total = Some(self.totals[side][kind]);
            let increase = self.counters[side][kind].read(total).unwrap_or(0.0) as u64;
            let [ok, failed] = if kind == 0 { [increase, 0] } else { [0, increase] };
            rollout.bulk(arm, ok, failed);
        }
        self.counters[side].iter().any(Counter::was_reset)
    }
}

fn counter_reset(rollout: &mut Rollout) {
    rollout.step_ms = 1_000;
    rollout.check();
    rollout.stage(0.1);
    let mut scraped = Scraped::default();
    while rollout.now_ms < SECONDS * 1_000 && !rollout.is_over() {
        rollout.arrivals_in_bulk(RATE, [USUAL; 2]);
        let counts = rollout.take_counts();
        let mut unread = [false; 2];
        let mut lost = false;
        for (side, more) in counts.into_iter().enumerate() {
            if rollout.rng.chance(0.02) {
                // What was counted since the last scrape is lost with the process, which does not answer now.
                scraped.totals[side] = [0.0; 2];
                unread[side] = true;
            } else {
                lost |= scraped.scrape(rollout, side, more);
            }
        }
        let sides = [Arm::Canary, Arm::Baseline].into_iter().zip(unread);
        for (arm, _) in sides.clone().filter(|(_, unread)| *unread) {
            let at_ms = rollout.told_ms();
            rollout.judge.observe(Event::Unread { at_ms, arm });
        }
        for (arm, _) in sides.filter(|(_, unread)| !*unread) {
            // As the engine does: a reading in which a total fell does not cover its time.
            if lost { rollout.show_unattributed(arm) } else { rollout.show(arm) }
        }
        rollout.pass();
    }
}

fn scrape_gap(rollout: &mut Rollout) {
    rollout.step_ms = 1_000;
    rollout.check();
    rollout.stage(0.1);
    for _ in 0..3 {
        let before = rollout.rng.between(30.0, 80.0) as i64;
        rollout.play(before, RATE, |rng, _, _| usual(rng, USUAL));
        let unread = if rollout.rng.chance(0.5) { Arm::Canary } else { Arm::Baseline };
        let other = if unread == Arm::Canary { Arm::Baseline } else { Arm::Canary };
        let errors = rollout.rng.between(0.005, 0.2);
        let gap = rollout.rng.between(10.0, 90.0) as i64;
        for _ in 0..gap {
            // What is counted of the unread side is shown when it can be read again.
            rollout.arrivals(RATE, |rng, _, _| usual(rng, errors));
            let at_ms = rollout.told_ms();
            rollout.judge.observe(Event::Unread { at_ms, arm: unread });
            rollout.show(other);
            rollout.pass();
        }
        rollout.step();
    }
    rollout.play(60, RATE, |rng, _, _| usual(rng, USUAL));
}

fn twenty_metrics(rollout: &mut Rollout) {
    rollout.check();
    let add = |n| rollout.judge.add_metric(&format!("metric{n}"), Worse::Higher, 0.0);
    let metrics: Vec<MetricId> = (0..20).filter_map(add).collect();
    rollout.stage(0.2);
    for second in 0..SHORT {
        if second % 5 == 0 {
            for &metric in &metrics {
                let (canary, baseline) = (rollout.rng.normal(), rollout.rng.normal());
                rollout.metric(metric, Some(canary), Some(baseline));
            }
        }
        rollout.play(1, RATE, |rng, _, _| usual(rng, USUAL));
    }
}

/// Usually a little above the baseline, and now and then far below: the means are equal.
fn known_shapes(rollout: &mut Rollout) {
    rollout.check();
    let mut add = |n: usize, shape: Shape| {
        let name = format!("metric{n}");
        rollout.judge.add_shaped_metric(&name, Worse::Higher, 0.0, shape)
    };
    let bounds = Shape::Bounded { min: 0.0, max: 1.0 };
    let bounded: Vec<MetricId> = (0..10).filter_map(|n| add(n, bounds)).collect();
    let noise = Shape::SubGaussian { sigma: 3.0 };
    let noisy: Vec<MetricId> = (10..20).filter_map(|n| add(n, noise)).collect();
    rollout.stage(0.2);
    for _ in 0..SHORT {
        for &metric in &bounded {
            let canary = if rollout.rng.chance(0.1) { 0.05 } else { 0.55 };
            let baseline = rollout.rng.between(0.4, 0.6);
            rollout.metric(metric, Some(canary), Some(baseline));
        }
        for &metric in &noisy {
            let (canary, baseline) = (rollout.rng.normal(), rollout.rng.normal());
            rollout.metric(metric, Some(50.0 + 3.0 * canary), Some(50.0 + 3.0 * baseline));
        }
        rollout.play(1, RATE, |rng, _, _| usual(rng, USUAL));
    }
}

fn source_down(rollout: &mut Rollout) {
    let check = rollout.judge.add_check("http", "web", Arm::Canary, 1_000);
    let memory = rollout.judge.add_metric("memory", Worse::Higher, 0.1);
    let memory = memory.expect("the first metric before the first reading");
    rollout.stage(0.1);
    for second in 0..SECONDS {
        let down = second >= SECONDS / 2;
        let words = || "connection refused".to_owned();
        let outcome = if down { CheckOutcome::Unreachable(words()) } else { CheckOutcome::Pass };
        let (at_ms, sample) = (rollout.told_ms(), CheckSample::new(outcome, 3.0));
        rollout.judge.observe(Event::Check { at_ms, arm: Arm::Canary, check, sample });
        let value = |rollout: &mut Rollout| 100.0 + 10.0 * rollout.rng.normal();
        let (canary, baseline) = (value(rollout), value(rollout));
        rollout.metric(memory, (!down).then_some(canary), Some(baseline));
        if down {
            for arm in [Arm::Canary, Arm::Baseline] {
                rollout.judge.observe(Event::Unread { at_ms, arm });
            }
            rollout.now_ms += 900;
            rollout.pass();
        } else {
            rollout.play(1, RATE, |rng, _, _| usual(rng, USUAL));
        }
    }
}

fn repair(rollout: &mut Rollout) {
    rollout.step_ms = 1_000;
    rollout.check();
    rollout.stage(0.1);
    let mut scraped = Scraped::default();
    scraped.totals[0] = [500.0, 500.0];
    scraped.totals[1] = [9_000.0, 50.0];
    while rollout.now_ms < SECONDS / 2 * 1_000 && !rollout.is_over() {
        rollout.arrivals_in_bulk(RATE, [USUAL; 2]);
        let counts = rollout.take_counts();
        for (side, more) in counts.into_iter().enumerate() {
            scraped.scrape(rollout, side, more);
        }
        rollout.step();
    }
}

fn by_route() -> Settings {
    Settings { budget: Budget { routes: 0.25, ..Budget::default() }, ..five_minutes() }
}

fn first_error(rollout: &mut Rollout) {
    const ROUTES: usize = 50;
    rollout.step_ms = 1_000;
    rollout.check();
    rollout.stage(0.1);
    let mut totals = [[[0u64; 2]; ROUTES]; 2];
    let mut counters = [[[Counter::default(); 2]; ROUTES]; 2];
    while rollout.now_ms < SECONDS * 1_000 && !rollout.is_over() {
        for _ in 0..rollout.rng.poisson(RATE) {
            let side = usize::from(rollout.draw() == Arm::Baseline);
            let route = (rollout.rng.uniform() * ROUTES as f64) as usize;
            totals[side][route][usize::from(rollout.rng.chance(0.001))] += 1;
        }
        let at_ms = rollout.told_ms();
        for (side, arm) in [Arm::Canary, Arm::Baseline].into_iter().enumerate() {
            for route in 0..ROUTES {
                let mut read = |kind: usize| {
                    let total = totals[side][route][kind];
                    // A counter is there from its first event on.
                    let total = (total > 0).then_some(total as f64);
                    counters[side][route][kind].read(total).unwrap_or(0.0) as u64
                };
                let (ok, failed) = (read(0), read(1));
                rollout.bulk(arm, ok, failed);
                if ok + failed > 0 {
                    let route = route as u64;
                    rollout.judge.observe(Event::Route { at_ms, arm, route, ok, failed });
                }
            }
        }
        rollout.step();
    }
}
