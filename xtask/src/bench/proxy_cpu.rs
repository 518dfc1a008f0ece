//! What a proxied request costs in processor time and memory.

use std::thread;
use std::time::Instant;

use super::backend::Backends;
use super::figures::median;
use super::folder::Folder;
use super::load::blast;
use super::peers::{Haproxy, Ours, Proxy};
use super::{Bench, Row};
use crate::Outcome;

pub(super) const ABOUT: &str = "Processor time (user and system, all threads) and memory per proxied \
request, keep-alive on both sides; the same backends, the two proxies taking turns.";

const ROUNDS: usize = 7;
const REQUESTS: u64 = 100_000;
const WARM_UP: u64 = 20_000;
const CONNECTIONS: u32 = 64;
const CPU_RATIO_MAX: f64 = 1.0;

pub(super) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let folder = Folder::create("cpu")?;
    let backends = Backends::start()?;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let ours = Ours::start(&bench.backout, &folder, &backends)?;
    let haproxy = Haproxy::start(&folder, &backends, threads)?;
    let proxies: [&dyn Proxy; 2] = [&ours, &haproxy];
    for proxy in proxies {
        cost(proxy, WARM_UP)?;
    }
    let mut costs = [Vec::new(), Vec::new()];
    for number in 1..=ROUNDS {
        for (proxy, costs) in proxies.iter().zip(&mut costs) {
            let cost = cost(*proxy, REQUESTS)?;
            let Cost { cpu_seconds, rate } = cost;
            let name = proxy.name();
            println!(
                "  round {number} of {ROUNDS}, {name}: {cpu_seconds:.1} s/million, {rate:.0}/s"
            );
            costs.push(cost);
        }
    }
    let memory = [ours.server().peak_memory_mib()?, haproxy.server().peak_memory_mib()?];
    Ok(rows(&costs, memory))
}

struct Cost {
    /// Per million requests.
    cpu_seconds: f64,
    /// Requests a second that came through.
    rate: f64,
}

fn cost(proxy: &dyn Proxy, requests: u64) -> Outcome<Cost> {
    let before = proxy.server().cpu_seconds()?;
    let start = Instant::now();
    let seen = blast(proxy.address(), CONNECTIONS, requests)?;
    let took = start.elapsed().as_secs_f64();
    let used = proxy.server().cpu_seconds()? - before;
    if let Some(failure) = seen.first_failure {
        let (name, failed) = (proxy.name(), seen.failed);
        return Err(format!("{failed} requests failed through {name}, the first: {failure}"));
    }
    let done = seen.replies.len() as f64;
    Ok(Cost { cpu_seconds: used * 1e6 / done, rate: done / took })
}

fn rows(costs: &[Vec<Cost>; 2], [my_memory, their_memory]: [f64; 2]) -> Vec<Row> {
    let middle = |figure: fn(&Cost) -> f64| {
        costs.each_ref().map(|costs| median(&costs.iter().map(figure).collect::<Vec<_>>()))
    };
    let [my_cpu, their_cpu] = middle(|cost| cost.cpu_seconds);
    let [my_rate, their_rate] = middle(|cost| cost.rate);
    vec![
        Row {
            name: "CPU seconds per million requests".to_owned(),
            ours: format!("{my_cpu:.1}"),
            peer: format!("HAProxy {their_cpu:.1}"),
            ratio: Some(my_cpu / their_cpu),
            goal: format!("ratio ≤ {CPU_RATIO_MAX:.1}"),
            met: Some(my_cpu <= CPU_RATIO_MAX * their_cpu),
            how: format!(
                "median of {ROUNDS} rounds of {REQUESTS} GETs over {CONNECTIONS} connections, \
                 each sending as soon as it has its answer"
            ),
            ..Row::default()
        },
        Row {
            name: "requests/s on the same rounds (higher is better)".to_owned(),
            ours: format!("{my_rate:.0}"),
            peer: format!("HAProxy {their_rate:.0}"),
            ratio: Some(my_rate / their_rate),
            how: "load, backends and proxy share the cores".to_owned(),
            ..Row::default()
        },
        Row {
            name: "peak memory".to_owned(),
            ours: format!("{my_memory:.1} MiB"),
            peer: format!("HAProxy {their_memory:.1} MiB"),
            ratio: Some(my_memory / their_memory),
            how: format!("VmHWM after all rounds, {CONNECTIONS} connections"),
            ..Row::default()
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_compare_medians_with_the_peer() {
        let costs = |cpu: &[f64]| {
            cpu.iter().map(|cpu| Cost { cpu_seconds: *cpu, rate: 10.0 }).collect::<Vec<_>>()
        };
        let good = rows(&[costs(&[9.0, 10.0, 90.0]), costs(&[10.0])], [1.0, 1.0]);
        assert_eq!(good[0].met, Some(true));
        let bad = rows(&[costs(&[10.1]), costs(&[10.0])], [65.0, 1.0]);
        assert_eq!(bad[0].met, Some(false));
    }
}
