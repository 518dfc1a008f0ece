//! `backout status` on a long history: what a person or a prompt waits for.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::figures::{median, quantile};
use super::folder::Folder;
use super::{Bench, Row};
use crate::{Outcome, paths, run};

pub(super) const ABOUT: &str = "`backout status` as a new process each time, on a ledger with 10 000 deployments in it, each \
     with its journal: read-only, nothing is probed. No peer keeps such a history.";

const DEPLOYMENTS: &str = "10000";
const RUNS: usize = 200;
const GOAL_MS: f64 = 15.0;
const GOAL_MB: f64 = 30.0;

/// What the seeded history is about, with a router that is asked and does not run.
const CONFIG: &str = "\
app: shop
target: { process: { command: [shop], port: auto } }
router: { builtin: { listen: \"127.0.0.1:1\" } }
health: { http: { url: \"http://127.0.0.1:{port}/health\" } }
";

pub(super) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let folder = Folder::create("status")?;
    folder.write("backout.yaml", CONFIG)?;
    seed(&folder.path().join("state"))?;
    let status = |args: &[&str]| {
        let mut command = Command::new(&bench.backout);
        command.args(["status", "--state-dir", "state"]).args(args).current_dir(folder.path());
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    };
    Ok(vec![
        time("time, for people", status(&[]))?,
        time("time, as JSON", status(&["--format", "json"]))?,
        peak(status(&["-w", "--format", "json"]))?,
    ])
}

fn seed(state: &Path) -> Outcome<()> {
    // Unoptimised: it writes for ten seconds then, and optimising it takes minutes.
    let build = ["build", "--quiet", "--locked", "--package", "backout-ledger"];
    run::run(run::cargo(&[&build[..], &["--example", "ledger_child"]].concat())?)?;
    let mut seed = Command::new(paths::target_dir()?.join("debug/examples/ledger_child"));
    seed.arg("seed").arg(state).arg(DEPLOYMENTS);
    run::output(seed).map(|_| ())
}

fn time(name: &str, mut command: Command) -> Outcome<Row> {
    let words = run::words(&command);
    command.stdout(Stdio::null());
    let mut times_ms = Vec::with_capacity(RUNS);
    for run in 0..=RUNS {
        let began = Instant::now();
        let status = command.status().map_err(|e| format!("failed to start `{words}`: {e}"))?;
        let took_ms = began.elapsed().as_secs_f64() * 1000.0;
        if !status.success() {
            return Err(format!("`{words}` ended with {status}"));
        }
        // The first one warms up the file cache.
        if run > 0 {
            times_ms.push(took_ms);
        }
    }
    let middle = median(&times_ms);
    Ok(Row {
        name: name.to_owned(),
        ours: format!("{middle:.1} ms"),
        goal: format!("≤ {GOAL_MS:.0} ms"),
        met: Some(middle <= GOAL_MS),
        how: format!(
            "median of {RUNS} processes, from start to end; fastest {:.1} ms, p95 {:.1} ms",
            quantile(&times_ms, 0.0),
            quantile(&times_ms, 0.95)
        ),
        ..Row::default()
    })
}

/// A process that has ended tells its peak no more, so one that goes on watching is asked after its first look.
fn peak(mut command: Command) -> Outcome<Row> {
    let words = run::words(&command);
    command.stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("failed to start `{words}`: {e}"))?;
    let mut line = String::new();
    let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    drop(child.kill());
    drop(child.wait());
    if !matches!(read, Some(Ok(1..))) || !line.contains("\"deployment\":10000") {
        return Err(format!("`{words}` did not show the newest deployment: {line}"));
    }
    let mb = status
        .ok()
        .and_then(|text| super::process::peak_kib(&text))
        .map(|kib| kib as f64 * 1024.0 / 1e6)
        .ok_or(format!("failed to read the peak memory of `{words}`"))?;
    Ok(Row {
        name: "peak memory".to_owned(),
        ours: format!("{mb:.1} MB"),
        goal: format!("≤ {GOAL_MB:.0} MB"),
        met: Some(mb <= GOAL_MB),
        how: "VmHWM of `status -w` after its first look".to_owned(),
        ..Row::default()
    })
}
