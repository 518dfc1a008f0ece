//! B5: how many events a core takes in, and how many bytes a metric needs.

use super::Effort;
use crate::eval::rng::Rng;
use crate::eval::rollout::usual;
use crate::eval::table::Table;
use backout_judge::sequential::{Comparison, state_bytes};
use backout_judge::{Arm, Event, Judge, Settings};
use std::time::Instant;

const REQUESTS: usize = 1_000_000;
const GOAL: f64 = 5e6;

/// Requests made beforehand: only the judge is measured.
struct Made {
    arm: Arm,
    failed: bool,
    us: u64,
}

/// A way to show them; gives whether it alarmed.
type Way = fn(&[Made]) -> bool;

/// B5.
pub fn measure(effort: &Effort) -> Vec<Table> {
    let about = "Events (requests with their latency) per second of processor time, errors and latency compared, best of five; \
         and bytes of state of a metric. Readings of 20 requests are what a router at 100 requests/s shows every 200 ms."
        .to_owned();
    let mut table = Table::new("B5", about, &["what", "ours", "goal"]);
    let mut rng = Rng::new(effort.seed);
    let made: Vec<Made> = (0..REQUESTS)
        .map(|_| {
            let arm = if rng.chance(0.1) { Arm::Canary } else { Arm::Baseline };
            let answer = usual(&mut rng, 0.005);
            Made { arm, failed: answer.failed, us: answer.us }
        })
        .collect();
    let ways: [(&str, Way, bool); 3] = [
        ("comparison, each request a reading of its own", one_by_one, true),
        ("comparison, readings of 20 requests", |made| in_readings(made, false), true),
        (
            "whole judge (windows, limits, traffic too), readings of 20 requests",
            |made| in_readings(made, true),
            true,
        ),
    ];
    for (name, way, has_goal) in ways {
        let best = (0..5).map(|_| timed(way, &made)).fold(0.0, f64::max);
        let millions = format!("{:.1} M events/s", best / 1e6);
        table.add(
            has_goal.then_some(best >= GOAL),
            vec![name.to_owned(), millions, "≥ 5 M".to_owned()],
        );
    }
    let [count, latency, other] = state_bytes();
    for (name, bytes, most) in [
        ("a count metric", count, 512),
        ("a latency metric", latency, 4_096),
        ("any other metric", other, 512),
    ] {
        let cells = vec![format!("state of {name}"), format!("{bytes} bytes"), format!("≤ {most}")];
        table.add(Some(bytes <= most), cells);
    }
    vec![table]
}

fn timed(way: Way, made: &[Made]) -> f64 {
    let began = (Instant::now(), on_core_ns());
    let alarmed = way(made);
    let seconds = match (began.1, on_core_ns()) {
        (Some(before), Some(after)) => after.saturating_sub(before) as f64 / 1e9,
        _ => began.0.elapsed().as_secs_f64(),
    };
    let per_second = made.len() as f64 / seconds.max(1e-9);
    // What is looked at can't be optimised away.
    if alarmed { 0.0 } else { per_second }
}

/// Time this thread has spent on a core: others may use the machine meanwhile. Linux only.
fn on_core_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn settings() -> Settings {
    Settings { latency_warm_up_ms: 0, false_rollback_probability: 1e-9, ..Settings::default() }
}

fn one_by_one(made: &[Made]) -> bool {
    let mut comparison = Comparison::new(&settings());
    comparison.weight(0.1);
    let mut alarmed = false;
    for (number, request) in made.iter().enumerate() {
        let (ok, failed) = (u64::from(!request.failed), u64::from(request.failed));
        let latency = [(request.us, 1)];
        let latency = if request.failed { &[][..] } else { &latency[..] };
        comparison.requests(number as i64 * 10, request.arm, ok, failed, latency);
        alarmed |= comparison.settle().is_some();
    }
    alarmed
}

fn in_readings(made: &[Made], whole: bool) -> bool {
    let mut judge = Judge::new(settings(), 0);
    let mut comparison = Comparison::new(&settings());
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.1 });
    comparison.weight(0.1);
    let mut latency = [Vec::with_capacity(20), Vec::with_capacity(20)];
    for (number, requests) in made.chunks(20).enumerate() {
        let mut counts = [[0u64; 2]; 2];
        latency.iter_mut().for_each(Vec::clear);
        for request in requests {
            let side = usize::from(request.arm == Arm::Baseline);
            counts[side][usize::from(request.failed)] += 1;
            if !request.failed {
                latency[side].push((request.us, 1));
            }
        }
        let at_ms = number as i64 * 200;
        for (side, arm) in [Arm::Canary, Arm::Baseline].into_iter().enumerate() {
            let ([ok, failed], latency) = (counts[side], &latency[side][..]);
            if whole {
                judge.observe(Event::Requests { at_ms, arm, ok, failed, latency });
            } else {
                comparison.requests(at_ms, arm, ok, failed, latency);
            }
        }
        if !whole && comparison.settle().is_some() {
            return true;
        }
    }
    whole && judge.verdict(i64::MAX / 2).is_failing() && judge.comparison().pending().is_some()
}
