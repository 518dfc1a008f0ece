//! What it costs to be never half-done, at the moment that counts.

use std::process::Command;

use serde_json::Value;

use super::folder::Folder;
use super::{Bench, Row};
use crate::{Outcome, paths, run};

pub(super) const ABOUT: &str = "All traffic moved to the other side as a rollback does it: the intent durable in the ledger, then the router \
     told and its answer checked; beside one fdatasync of the same text and a bare admin command to the same proxy. \
     The two take turns, in one process, on one disk. Lower is better.";

const GOAL_RATIO: f64 = 1.5;

pub(super) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let build = ["build", "--quiet", "--locked", "--release", "--package", "backout"];
    run::run(run::cargo(&[&build[..], &["--example", "switch_bench"]].concat())?)?;
    let folder = Folder::create("intent")?;
    let mut command = Command::new(paths::target_dir()?.join("release/examples/switch_bench"));
    command.arg(&bench.backout).arg(folder.path());
    let said = run::output(command)?;
    let said: Value =
        serde_json::from_str(&said).map_err(|e| format!("failed to read {said:?}: {e}"))?;
    Ok(vec![
        row(&said, "median_us", "intent and traffic switch, median", true)?,
        row(&said, "p99_us", "intent and traffic switch, 99th percentile", false)?,
    ])
}

fn row(said: &Value, figure: &str, name: &str, has_goal: bool) -> Outcome<Row> {
    let us = |of: &str| said[of][figure].as_f64().ok_or(format!("no {figure} in {said}"));
    let (ours, bare) = (us("ours")?, us("bare")?);
    let ratio = ours / bare;
    Ok(Row {
        name: name.to_owned(),
        ours: format!("{:.2} ms", ours / 1000.0),
        peer: format!("fdatasync and bare command {:.2} ms", bare / 1000.0),
        ratio: Some(ratio),
        goal: if has_goal { format!("ratio ≤ {GOAL_RATIO}") } else { String::new() },
        met: has_goal.then_some(ratio <= GOAL_RATIO),
        how: "400 switches of each kind in turns; until the proxy has acknowledged".to_owned(),
        ..Row::default()
    })
}
