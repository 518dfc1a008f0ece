//! Families that must roll back: faults that are there from the start.

use super::Family;
use crate::eval::rng::Rng;
use crate::eval::rollout::{Answer, Rollout, answer, usual};
use backout_judge::{Arm, Budget, Event, Settings};

/// Requests per second.
pub(super) const RATE: f64 = 100.0;

/// The judge as it is delivered, with a watch of half an hour.
pub(super) fn delivered() -> Settings {
    Settings { watch_ms: 30 * 60_000, ..Settings::default() }
}

/// A canary at 10 % that answers in its own way, beside a baseline with this rate of errors.
pub(super) fn beside(
    rollout: &mut Rollout,
    seconds: i64,
    baseline: f64,
    canary: impl Fn(&mut Rng, i64) -> Answer,
) {
    rollout.check();
    rollout.stage(0.1);
    rollout.play(seconds, RATE, |rng, arm, at_ms| match arm {
        Arm::Canary => canary(rng, at_ms),
        Arm::Baseline => usual(rng, baseline),
    });
}

macro_rules! more_errors {
    ($name:literal, $about:literal, $baseline:literal, $more:literal) => {
        Family {
            name: $name,
            about: $about,
            settings: delivered,
            weight: 1,
            play: |rollout| {
                beside(rollout, 1_800, $baseline, |rng, _| usual(rng, $baseline + $more));
            },
        }
    };
}

/// The families of this file.
pub const ALL: &[Family] = &[
    more_errors!("0.01+1", "0.01 % errors, canary one point more", 0.0001, 0.01),
    more_errors!("0.01+5", "0.01 % errors, canary five points more", 0.0001, 0.05),
    more_errors!("0.01+50", "0.01 % errors, canary fifty points more", 0.0001, 0.5),
    more_errors!("0.1+1", "0.1 % errors, canary one point more", 0.001, 0.01),
    more_errors!("0.1+5", "0.1 % errors, canary five points more", 0.001, 0.05),
    more_errors!("0.1+50", "0.1 % errors, canary fifty points more", 0.001, 0.5),
    more_errors!("1+1", "1 % errors, canary one point more: twice as many", 0.01, 0.01),
    more_errors!("1+5", "1 % errors, canary five points more", 0.01, 0.05),
    more_errors!("1+50", "1 % errors, canary fifty points more", 0.01, 0.5),
    Family {
        name: "total-failure",
        about: "every request of the canary fails",
        settings: delivered,
        weight: 1,
        play: |rollout| beside(rollout, 60, 0.001, |rng, _| usual(rng, 1.0)),
    },
    Family {
        name: "crash-loop",
        about: "the process exits and is restarted every 20 s; requests in between are answered well",
        settings: delivered,
        weight: 1,
        play: crash_loop,
    },
    Family {
        name: "silence",
        about: "the canary answers nothing any more after a minute, and nothing counts as failed",
        settings: delivered,
        weight: 1,
        play: silence,
    },
    Family {
        name: "latency+20%",
        about: "every answer 20 % slower",
        settings: delivered,
        weight: 1,
        play: |rollout| beside(rollout, 1_800, 0.001, |rng, _| answer(rng, 0.001, 1.2)),
    },
    Family {
        name: "latency-2x",
        about: "every answer twice as slow",
        settings: delivered,
        weight: 1,
        play: |rollout| beside(rollout, 600, 0.001, |rng, _| answer(rng, 0.001, 2.0)),
    },
    Family {
        name: "tail-only",
        about: "2 % of the answers one second slower",
        settings: delivered,
        weight: 1,
        play: |rollout| beside(rollout, 1_800, 0.001, |rng, _| tail(rng)),
    },
    Family {
        name: "bimodal",
        about: "a fifth of the answers four times as slow",
        settings: delivered,
        weight: 1,
        play: |rollout| beside(rollout, 600, 0.001, |rng, _| bimodal(rng)),
    },
    Family {
        name: "one-in-50",
        about: "one of 50 routes fails every second time; routes are judged one by one",
        settings: by_route,
        weight: 1,
        play: one_in_fifty,
    },
    Family {
        name: "hidden-latency",
        about: "the canary has no errors beside 5 %, and is 1.8 times as slow",
        settings: delivered,
        weight: 1,
        play: |rollout| beside(rollout, 600, 0.05, |rng, _| answer(rng, 0.0, 1.8)),
    },
    Family {
        name: "endless-cold-start",
        about: "3 % errors and five times as slow, with a warm-up of 30 s that changes nothing",
        settings: warming_up,
        weight: 1,
        play: |rollout| beside(rollout, 600, 0.001, |rng, _| answer(rng, 0.03, 5.0)),
    },
];

/// 2 % of the answers one second slower.
pub(crate) fn tail(rng: &mut Rng) -> Answer {
    let us = if rng.chance(0.02) { 1_000_000 } else { 0 };
    let answer = usual(rng, 0.001);
    Answer { us: answer.us + us, ..answer }
}

/// A fifth of the answers four times as slow.
pub(crate) fn bimodal(rng: &mut Rng) -> Answer {
    let factor = if rng.chance(0.2) { 4.0 } else { 1.0 };
    answer(rng, 0.001, factor)
}

fn crash_loop(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    rollout.play(1, RATE, |rng, _, _| usual(rng, 0.001));
    for restarts in 1..30 {
        rollout.judge.observe(Event::Exited {
            at_ms: rollout.now_ms,
            arm: Arm::Canary,
            service: "web",
            code: Some(1),
            restarts,
            before_first_pass: false,
        });
        rollout.play(20, RATE, |rng, _, _| usual(rng, 0.001));
    }
}

fn silence(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    rollout.play(60, RATE, |rng, _, _| usual(rng, 0.001));
    rollout.onset();
    while rollout.now_ms < 300_000 && !rollout.is_over() {
        rollout.arrivals(RATE, |rng, _, _| usual(rng, 0.001));
        let [_, [ok, failed]] = rollout.take_counts();
        rollout.bulk(Arm::Baseline, ok, failed);
        rollout.step();
    }
}

fn by_route() -> Settings {
    Settings { budget: Budget { routes: 0.25, ..Budget::default() }, ..delivered() }
}

fn one_in_fifty(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    while rollout.now_ms < 1_800_000 && !rollout.is_over() {
        for _ in 0..rollout.rng.poisson(RATE * rollout.step_ms as f64 / 1e3) {
            let (arm, route) = (rollout.draw(), (rollout.rng.uniform() * 50.0) as u64);
            let bad = arm == Arm::Canary && route == 17;
            let answer = usual(&mut rollout.rng, if bad { 0.5 } else { 0.01 });
            rollout.request(arm, answer);
            let (at_ms, failed) = (rollout.told_ms(), u64::from(answer.failed));
            rollout.judge.observe(Event::Route { at_ms, arm, route, ok: 1 - failed, failed });
        }
        rollout.step();
    }
}

fn warming_up() -> Settings {
    Settings { warm_up_ms: 30_000, ..delivered() }
}
