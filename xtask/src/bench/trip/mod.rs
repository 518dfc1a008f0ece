//! What users meet of a bad release before it is taken out, and what happens to good ones.

mod service;
mod users;
mod world;

use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::figures::{median, quantile};
use super::folder::Folder;
use super::{Bench, Row};
use crate::Outcome;
use service::Fails;
use users::{Met, Users};
use world::{Setting, World};

pub use service::run as run_release;

pub(super) const ABOUT: &str = "Live on loopback: `backout deploy` of a canary at 10 % behind the built-in proxy, 100 requests/s \
of users over 8 kept connections, default settings. The peer's figures were measured apart from this, on Kubernetes with \
Traefik and Prometheus: Argo Rollouts at the fastest settings that work. As documented, Flagger lets 1 807 requests fail in \
362 s and Argo 26 888 in 1 501 s (50 % failing), 176 in 358 s and 4 821 in 2 096 s (5 % failing).";

/// Runs of each kind.
const RUNS: usize = 11;
/// Worlds that run at once.
const AT_ONCE: usize = 4;
const RATE: u32 = 100;
/// Users come for so long before the new release does, and after it is gone.
const BEFORE: Duration = Duration::from_secs(2);
/// A repair comes this long after the abort.
const REPAIR_AFTER: Duration = Duration::from_secs(15);
const DURABLE_MS: f64 = 50.0;

/// A bad release, what it may cost, and what it costs with the fastest peer.
struct Bad {
    share: f64,
    failed_max: f64,
    seconds_max: f64,
    peer: (&'static str, f64, f64),
}

const BAD: [Bad; 2] = [
    Bad { share: 0.5, failed_max: 5.0, seconds_max: 1.5, peer: ("Argo", 41.0, 6.3) },
    Bad { share: 0.05, failed_max: 8.0, seconds_max: 12.0, peer: ("Argo", 4.0, 5.0) },
];

/// A good release that a careless rule takes back.
#[derive(Clone, Copy)]
enum Good {
    SameErrors,
    NoMetrics,
    Repair,
    FirstError,
}

const GOOD: [(Good, &str, &str); 4] = [
    (Good::SameErrors, "0.5 % errors beside a baseline with 0.5 %", "3 of 11, fastest settings"),
    (Good::NoMetrics, "healthy while the configured Prometheus is down", "taken back by both"),
    (Good::Repair, "a repair deployed 15 s after an abort", "aborted by Argo"),
    (Good::FirstError, "the first error ever on the route", "not seen by either"),
];

/// What one bad release came to.
struct Seen {
    failed: f64,
    seconds: f64,
    by_proxy: bool,
    durable_ms: Option<f64>,
}

pub(super) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let folder = Folder::create("trip")?;
    let mut rows = Vec::new();
    for bad in &BAD {
        let name = format!("bad-{}", bad.share);
        let seen = each(folder.path(), &name, |path| take_out(bench, path, bad.share))?;
        rows.extend(bad_rows(bad, &seen));
    }
    for (good, what, peers) in GOOD {
        let name = format!("good-{}", good as u8);
        let kept = each(folder.path(), &name, |path| keep(bench, path, good))?;
        rows.push(good_row(what, peers, &kept));
    }
    Ok(rows)
}

/// Runs it so often, some at once, each in a folder of its own.
fn each<T: Send>(
    folder: &Path,
    name: &str,
    run: impl Fn(std::path::PathBuf) -> Outcome<T> + Sync,
) -> Outcome<Vec<T>> {
    let (todo, done) = (Mutex::new((0..RUNS).collect::<Vec<_>>()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(number) = todo.lock().ok().and_then(|mut todo| todo.pop()) {
                    let result = run(folder.join(format!("{name}-{number}")));
                    println!(
                        "  {name}, run {number}: {}",
                        if result.is_ok() { "done" } else { "failed" }
                    );
                    if let Ok(mut done) = done.lock() {
                        done.push(result);
                    }
                }
            });
        }
    });
    done.into_inner().map_err(|_| "a run panicked".to_owned())?.into_iter().collect()
}

/// v1 is stable and has users.
fn begun(
    bench: &Bench,
    path: std::path::PathBuf,
    setting: Setting,
    v1: Fails,
) -> Outcome<(World, Users)> {
    let world = World::create(path, &bench.backout, setting)?;
    world.deploy_good("v1", v1)?;
    let users = Users::start(world.address, RATE);
    thread::sleep(BEFORE);
    Ok((world, users))
}

fn take_out(bench: &Bench, path: std::path::PathBuf, share: f64) -> Outcome<Seen> {
    let setting = Setting { hold_s: 120, ..Setting::default() };
    let (world, users) = begun(bench, path, setting, Fails::Share(0.0))?;
    let code = world.deploy("v2", Fails::Share(share))?;
    if code != 10 {
        return Err(format!("a release that fails {share} of its requests ended with {code}"));
    }
    thread::sleep(BEFORE);
    let met = users.finish()?;
    let seconds = met.lasted().as_secs_f64();
    println!("  {} of {} requests failed, in {seconds:.1} s", met.failed.len(), met.requests);
    Ok(Seen {
        failed: met.failed.len() as f64,
        seconds,
        by_proxy: world.surface()? == "proxy",
        durable_ms: world.durable_after_ms(),
    })
}

/// Whether a good release stayed, and what users met.
fn keep(bench: &Bench, path: std::path::PathBuf, good: Good) -> Outcome<(bool, Met)> {
    let (v1, v2) = match good {
        Good::SameErrors => (Fails::Share(0.005), Fails::Share(0.005)),
        Good::NoMetrics | Good::Repair => (Fails::Share(0.0), Fails::Share(0.0)),
        Good::FirstError => (Fails::Share(0.0), Fails::Once(100)),
    };
    let dead_metrics = matches!(good, Good::NoMetrics);
    let (world, users) = begun(bench, path, Setting { hold_s: 30, dead_metrics }, v1)?;
    if matches!(good, Good::Repair) {
        let code = world.deploy("v2", Fails::Share(0.5))?;
        if code != 10 {
            return Err(format!("the release before the repair ended with {code}"));
        }
        thread::sleep(REPAIR_AFTER);
    }
    let code = world.deploy("v3", v2)?;
    Ok((code == 0, users.finish()?))
}

fn bad_rows(bad: &Bad, seen: &[Seen]) -> Vec<Row> {
    let figure = |of: fn(&Seen) -> f64| seen.iter().map(of).collect::<Vec<_>>();
    let (failed, seconds) = (figure(|seen| seen.failed), figure(|seen| seen.seconds));
    let (peer, peer_failed, peer_seconds) = bad.peer;
    let percent = bad.share * 100.0;
    let row = |what: &str, unit: &str, values: &[f64], most: f64, peers: f64, digits: usize| Row {
        name: format!("{what}, {percent} % failing"),
        ours: format!("{:.digits$}{unit}", median(values)),
        peer: format!("{peer} {peers}{unit}"),
        ratio: Some(median(values) / peers),
        goal: format!("≤ {most}{unit}"),
        met: Some(median(values) <= most),
        how: format!(
            "median of {} runs; worst {:.digits$}{unit}, {} of {} within the goal",
            values.len(),
            quantile(values, 1.0),
            values.iter().filter(|value| **value <= most).count(),
            values.len()
        ),
        ..Row::default()
    };
    let by_proxy = seen.iter().filter(|seen| seen.by_proxy).count();
    let durable: Vec<f64> = seen.iter().filter_map(|seen| seen.durable_ms).collect();
    let worst_ms = quantile(&durable, 1.0);
    let mut rows = vec![
        row("failed user requests", "", &failed, bad.failed_max, peer_failed, 0),
        row("first failed request to last", " s", &seconds, bad.seconds_max, peer_seconds, 1),
        Row {
            name: format!("taken out by the proxy itself, {percent} % failing"),
            ours: format!("{by_proxy} of {}", seen.len()),
            how: "else the judge of the watcher was first".to_owned(),
            ..Row::default()
        },
    ];
    if !durable.is_empty() {
        rows.push(Row {
            name: format!("trip in memory to trip on disk, {percent} % failing"),
            ours: format!("{:.1} ms", median(&durable)),
            goal: format!("≤ {DURABLE_MS} ms"),
            met: Some(worst_ms <= DURABLE_MS),
            how: format!("median; worst {worst_ms:.1} ms, which the goal is about"),
            ..Row::default()
        });
    }
    rows
}

fn good_row(what: &str, peers: &str, kept: &[(bool, Met)]) -> Row {
    let taken_back = kept.iter().filter(|(stayed, _)| !stayed).count();
    let requests: u64 = kept.iter().map(|(_, met)| met.requests).sum();
    let failed: usize = kept.iter().map(|(_, met)| met.failed.len()).sum();
    Row {
        name: format!("false alarms: {what}"),
        ours: format!("{taken_back} of {}", kept.len()),
        peer: peers.to_owned(),
        goal: "0".to_owned(),
        met: Some(taken_back == 0),
        how: format!("{} runs, {requests} requests, {failed} failed in all", kept.len()),
        must: true,
        ..Row::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_about_the_middle_run_and_false_alarms_about_all() {
        let seen =
            |failed, seconds| Seen { failed, seconds, by_proxy: true, durable_ms: Some(3.0) };
        let rows = bad_rows(&BAD[0], &[seen(4.0, 0.8), seen(3.0, 0.6), seen(9.0, 2.0)]);
        assert_eq!((rows[0].met, rows[0].ours.as_str()), (Some(true), "4"));
        assert!(rows[0].how.contains("worst 9, 2 of 3 within"), "{}", rows[0].how);
        assert_eq!((rows[1].met, rows[3].met), (Some(true), Some(true)));
        let slow = bad_rows(&BAD[0], &[seen(6.0, 1.6)]);
        assert_eq!((slow[0].met, slow[1].met), (Some(false), Some(false)));
        let good = good_row("x", "", &[(true, Met::default()), (false, Met::default())]);
        assert!(good.is_broken() && good.ours == "1 of 2");
    }
}
