//! Families that must not roll back: traffic of all shapes. What both sides suffer, and what is
//! harmless by the settings, is no reason.

use super::Family;
use crate::eval::rollout::{Answer, Rollout, answer, usual};
use backout_judge::{Arm, Event, Settings};

const SECONDS: i64 = 300;
/// Families in which errors are frequent are shorter.
const SHORT: i64 = 200;
const RATE: f64 = 100.0;
/// The rate of errors that is usual.
const USUAL: f64 = 0.005;

/// A watch as long as the run, so that its whole budget is spent in it.
pub(super) fn five_minutes() -> Settings {
    Settings { watch_ms: SECONDS * 1_000, ..Settings::default() }
}

/// Nothing called harmless: the sharpest null there is.
fn strict() -> Settings {
    Settings { harmless_error_rate: 0.0, harmless_latency_increase: 0.0, ..short() }
}

fn five_minutes_strict() -> Settings {
    Settings { watch_ms: SECONDS * 1_000, ..strict() }
}

fn short() -> Settings {
    Settings { watch_ms: SHORT * 1_000, ..Settings::default() }
}

/// The families of this file.
pub const ALL: &[Family] = &[
    Family {
        name: "poisson",
        about: "100 requests/s, 0.5 % errors on both sides, nothing called harmless",
        settings: strict,
        weight: 3,
        play: poisson,
    },
    Family {
        name: "fixed-order",
        about: "the same, spread by the built-in router's fixed sequence instead of drawn",
        settings: strict,
        weight: 3,
        play: fixed_order,
    },
    Family {
        name: "bursts",
        about: "load and error rate redrawn each second (gamma, shapes 2 and 0.3), the same on both sides",
        settings: strict,
        weight: 3,
        play: bursts,
    },
    Family {
        name: "diurnal",
        about: "load, latency and errors swing by 80, 50 and 50 % once in the watch",
        settings: strict,
        weight: 3,
        play: diurnal,
    },
    Family {
        name: "shared-fault",
        about: "errors of both sides 10 to 30 times as frequent and answers 3 times as slow for 1 to 2 minutes",
        settings: short,
        weight: 3,
        play: shared_fault,
    },
    Family {
        name: "retry-storm",
        about: "30 % errors of both sides for a minute, each failed request sent again up to three times",
        settings: short,
        weight: 3,
        play: retry_storm,
    },
    Family {
        name: "abusive-client",
        about: "sticky sessions; one of the canary's sends up to half of all requests, half of them fail and it is slow",
        settings: sticky,
        weight: 3,
        play: abusive_client,
    },
    Family {
        name: "cold-start",
        about: "the canary has 1 % errors and is 5 times as slow for 30 s, with a warm-up of 30 s",
        settings: warming_up,
        weight: 3,
        play: cold_start,
    },
    Family {
        name: "stages",
        about: "1, 5, 25, 50, 100 %, 40 s each",
        settings: strict,
        weight: 3,
        play: stages,
    },
    Family {
        name: "low-traffic",
        about: "0.1 requests/s or fewer for two hours, 1 % errors, 10 or 50 % on the canary",
        settings: two_hours,
        weight: 1,
        play: low_traffic,
    },
    Family {
        name: "zero-errors",
        about: "baseline without any error, canary at 0.05 %, half of the default harmless rate; 25 %",
        settings: five_minutes,
        weight: 1,
        play: zero_errors,
    },
    Family {
        name: "pauses",
        about: "no traffic for 20 to 90 s three times, then what waited all at once",
        settings: five_minutes_strict,
        weight: 3,
        play: pauses,
    },
    Family {
        name: "harmless-errors",
        about: "2000 requests/s, 0.03 % errors beside none, default settings",
        settings: five_minutes,
        weight: 1,
        play: harmless_errors,
    },
    Family {
        name: "harmless-latency",
        about: "2000 requests/s, 3 % slower, default settings, 90 s",
        settings: ninety_seconds,
        weight: 1,
        play: harmless_latency,
    },
];

fn poisson(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    rollout.play(SHORT, RATE, |rng, _, _| usual(rng, USUAL));
}

/// As the built-in router picks sides: of any hundred requests in a row exactly the share.
fn fixed_order(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    let mut number = (rollout.rng.uniform() * 100.0) as u64;
    while rollout.now_ms < SHORT * 1_000 && !rollout.is_over() {
        for _ in 0..rollout.rng.poisson(RATE * rollout.step_ms as f64 / 1e3) {
            let place = (number % 100 * 61 + 39) % 100;
            number += 1;
            let arm = if place < 10 { Arm::Canary } else { Arm::Baseline };
            let answer = usual(&mut rollout.rng, USUAL);
            rollout.request(arm, answer);
        }
        rollout.step();
    }
}

fn bursts(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    for _ in 0..SHORT {
        let load = RATE * rollout.rng.gamma(2.0);
        let errors = (0.01 * rollout.rng.gamma(0.3)).min(0.5);
        rollout.play(1, load, |rng, _, _| usual(rng, errors));
    }
}

fn diurnal(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    let began_at = rollout.rng.uniform();
    for second in 0..SHORT {
        let swing = (std::f64::consts::TAU * (began_at + second as f64 / SHORT as f64)).sin();
        let (errors, slower) = (USUAL * (1.0 + 0.5 * swing), 1.0 + 0.5 * swing);
        rollout.play(1, RATE * (1.0 + 0.8 * swing), |rng, _, _| answer(rng, errors, slower));
    }
}

fn shared_fault(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    let before = rollout.rng.between(10.0, 60.0) as i64;
    let lasts = rollout.rng.between(60.0, 120.0) as i64;
    let errors = USUAL * rollout.rng.between(10.0, 30.0);
    rollout.play(before, RATE, |rng, _, _| usual(rng, USUAL));
    rollout.play(lasts, RATE, |rng, _, _| answer(rng, errors, 3.0));
    rollout.play(SHORT - before - lasts, RATE, |rng, _, _| usual(rng, USUAL));
}

fn retry_storm(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    let begins = rollout.rng.between(10.0, 130.0) as i64;
    // Requests to be sent again in the next readings, by how often they failed.
    let mut again = [0u64; 4];
    while rollout.now_ms < SHORT * 1_000 && !rollout.is_over() {
        let storm = (begins..begins + 60).contains(&(rollout.now_ms / 1_000));
        let errors = if storm { 0.3 } else { USUAL };
        let mut due = std::mem::take(&mut again);
        due[0] = rollout.rng.poisson(RATE * rollout.step_ms as f64 / 1e3);
        for (tries, count) in due.into_iter().enumerate() {
            for _ in 0..count {
                let arm = rollout.draw();
                let answer = usual(&mut rollout.rng, errors);
                rollout.request(arm, answer);
                if answer.failed && tries < 3 {
                    again[tries + 1] += 1;
                }
            }
        }
        rollout.step();
    }
}

fn sticky() -> Settings {
    Settings { sticky_sessions: true, ..strict() }
}

fn abusive_client(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.05);
    let part = rollout.rng.between(0.05, 0.5);
    // Sessions fall to the canary at random; the first that did is the abuser.
    let canary: Vec<bool> = (0..2_000).map(|_| rollout.rng.chance(0.05)).collect();
    let abuser = canary.iter().position(|&canary| canary).unwrap_or(0);
    while rollout.now_ms < SHORT / 2 * 1_000 && !rollout.is_over() {
        for _ in 0..rollout.rng.poisson(RATE * rollout.step_ms as f64 / 1e3) {
            let abuse = rollout.rng.chance(part);
            let other = (rollout.rng.uniform() * canary.len() as f64) as usize;
            let session = if abuse { abuser } else { other };
            let arm = if canary[session] { Arm::Canary } else { Arm::Baseline };
            let slower = if abuse { 20.0 } else { 1.0 };
            let errors = if abuse { 0.5 } else { USUAL };
            let Answer { failed, us } = answer(&mut rollout.rng, errors, slower);
            rollout.judge.observe(Event::Session {
                at_ms: rollout.now_ms,
                arm,
                session: session as u64,
                ok: !failed,
                latency_us: Some(us),
            });
        }
        rollout.pass();
    }
}

fn warming_up() -> Settings {
    Settings { warm_up_ms: 30_000, ..short() }
}

fn cold_start(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    rollout.play(30, RATE, |rng, arm, _| match arm {
        Arm::Canary => answer(rng, 0.01, 5.0),
        Arm::Baseline => usual(rng, USUAL),
    });
    rollout.play(SHORT - 30, RATE, |rng, _, _| usual(rng, USUAL));
}

fn stages(rollout: &mut Rollout) {
    rollout.check();
    for share in [0.01, 0.05, 0.25, 0.5, 1.0] {
        rollout.stage(share);
        rollout.play(SHORT / 5, RATE, |rng, _, _| usual(rng, USUAL));
    }
}

fn two_hours() -> Settings {
    Settings { watch_ms: 2 * 3_600_000, ..strict() }
}

fn low_traffic(rollout: &mut Rollout) {
    rollout.step_ms = 5_000;
    let share = if rollout.rng.chance(0.5) { 0.1 } else { 0.5 };
    rollout.stage(share);
    let rate = rollout.rng.between(0.02, 0.1);
    rollout.play(7_200, rate, |rng, _, _| usual(rng, 0.01));
}

fn zero_errors(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.25);
    rollout.play(SECONDS, RATE, |rng, arm, _| match arm {
        Arm::Canary => usual(rng, 0.000_5),
        Arm::Baseline => usual(rng, 0.0),
    });
}

fn pauses(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    for _ in 0..3 {
        let active = rollout.rng.between(30.0, 50.0) as i64;
        rollout.play(active, RATE, |rng, _, _| usual(rng, USUAL));
        let pause = rollout.rng.between(20.0, 90.0) as i64;
        rollout.play(pause, 0.0, |rng, _, _| usual(rng, USUAL));
        // One reading with what had queued up.
        rollout.arrivals(200.0 * RATE, |rng, _, _| usual(rng, USUAL));
        rollout.step();
    }
    rollout.play(30, RATE, |rng, _, _| usual(rng, USUAL));
}

fn harmless_errors(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    while rollout.now_ms < SECONDS * 1_000 && !rollout.is_over() {
        rollout.arrivals_in_bulk(2_000.0, [0.000_3, 0.0]);
        rollout.step();
    }
}

fn ninety_seconds() -> Settings {
    Settings { watch_ms: 90_000, ..Settings::default() }
}

fn harmless_latency(rollout: &mut Rollout) {
    rollout.check();
    rollout.stage(0.1);
    rollout.play(90, 2_000.0, |rng, arm, _| match arm {
        Arm::Canary => answer(rng, 0.0, 1.03),
        Arm::Baseline => answer(rng, 0.0, 1.0),
    });
}
