//! Families that must roll back: faults that begin late, grow, or come and go.

use super::Family;
use super::regressions::{RATE, beside, delivered};
use crate::eval::rollout::{Rollout, answer, usual};
use backout_judge::{Arm, Settings, Shape, Worse};

/// The families of this file.
pub const ALL: &[Family] = &[
    Family {
        name: "leak-of-errors",
        about: "errors grow evenly from 0.1 to 5 % within 20 minutes",
        settings: delivered,
        weight: 1,
        play: |rollout| {
            beside(rollout, 1_800, 0.001, |rng, at_ms| {
                usual(rng, 0.001 + 0.049 * (at_ms as f64 / 1.2e6).min(1.0))
            });
        },
    },
    Family {
        name: "leak-of-latency",
        about: "answers get slower evenly, twice as slow after 20 minutes",
        settings: delivered,
        weight: 1,
        play: |rollout| {
            beside(rollout, 1_800, 0.001, |rng, at_ms| {
                answer(rng, 0.001, 1.0 + (at_ms as f64 / 1.2e6).min(1.0))
            });
        },
    },
    Family {
        name: "leak-of-memory",
        about: "memory grows by 5 % of the baseline's a minute; read every 10 s, 10 % of noise, tolerance 20 %",
        settings: delivered,
        weight: 1,
        play: leak_of_memory,
    },
    Family {
        name: "flapping",
        about: "30 % errors for 5 s of each minute",
        settings: delivered,
        weight: 1,
        play: |rollout| {
            beside(rollout, 1_800, 0.001, |rng, at_ms| {
                usual(rng, if at_ms % 60_000 < 5_000 { 0.3 } else { 0.001 })
            });
        },
    },
    Family {
        name: "onset-5min",
        about: "five points more errors from the fifth minute on",
        settings: three_hours,
        weight: 1,
        play: |rollout| onset(rollout, 5),
    },
    Family {
        name: "onset-30min",
        about: "five points more errors from the 30th minute on",
        settings: three_hours,
        weight: 1,
        play: |rollout| onset(rollout, 30),
    },
    Family {
        name: "onset-120min",
        about: "five points more errors from the 120th minute on",
        settings: three_hours,
        weight: 1,
        play: |rollout| onset(rollout, 120),
    },
    Family {
        name: "saturation",
        about: "nine of ten workers busy beside half of them: between 0 and 1; read every 5 s, tolerance 10 %",
        settings: delivered,
        weight: 1,
        play: saturation,
    },
    Family {
        name: "above-half",
        about: "30 % errors at a weight of 50 % or more, none below: 5, 25, 50 %, two minutes each",
        settings: delivered,
        weight: 1,
        play: above_half,
    },
];

fn leak_of_memory(rollout: &mut Rollout) {
    let memory = rollout.judge.add_metric("memory", Worse::Higher, 0.2);
    let memory = memory.expect("the first metric before the first reading");
    rollout.check();
    rollout.stage(0.1);
    for reading in 0..180 {
        let growth = 1.0 + 0.05 * reading as f64 / 6.0;
        let canary = 100.0 * growth + 10.0 * rollout.rng.normal();
        let baseline = 100.0 + 10.0 * rollout.rng.normal();
        rollout.metric(memory, Some(canary), Some(baseline));
        rollout.play(10, RATE, |rng, _, _| usual(rng, 0.001));
        if rollout.is_over() {
            break;
        }
    }
}

fn saturation(rollout: &mut Rollout) {
    let bounds = Shape::Bounded { min: 0.0, max: 1.0 };
    let busy = rollout.judge.add_shaped_metric("busy", Worse::Higher, 0.1, bounds);
    let busy = busy.expect("the first metric before the first reading");
    rollout.check();
    rollout.stage(0.1);
    for _ in 0..240 {
        let part =
            |rollout: &mut Rollout, mean: f64| (mean + 0.1 * rollout.rng.normal()).clamp(0.0, 1.0);
        let (canary, baseline) = (part(rollout, 0.9), part(rollout, 0.5));
        rollout.metric(busy, Some(canary), Some(baseline));
        rollout.play(5, RATE, |rng, _, _| usual(rng, 0.001));
        if rollout.is_over() {
            break;
        }
    }
}

/// The default watch.
fn three_hours() -> Settings {
    Settings::default()
}

fn onset(rollout: &mut Rollout, minutes: i64) {
    rollout.check();
    rollout.stage(0.1);
    rollout.onset_ms = minutes * 60_000;
    let look_ms = std::mem::replace(&mut rollout.look_ms, 10_000);
    rollout.step_ms = 1_000;
    while rollout.now_ms < rollout.onset_ms && !rollout.is_over() {
        rollout.arrivals_in_bulk(RATE, [0.001; 2]);
        rollout.step();
    }
    rollout.look();
    rollout.look_ms = look_ms;
    rollout.step_ms = 100;
    rollout
        .play(600, RATE, |rng, arm, _| usual(rng, if arm == Arm::Canary { 0.051 } else { 0.001 }));
}

fn above_half(rollout: &mut Rollout) {
    rollout.check();
    for share in [0.05, 0.25, 0.5] {
        rollout.stage(share);
        rollout.onset();
        let bad = if share < 0.5 { 0.001 } else { 0.3 };
        rollout.play(120, RATE, |rng, arm, _| {
            usual(rng, if arm == Arm::Canary { bad } else { 0.001 })
        });
    }
}
