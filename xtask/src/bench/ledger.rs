//! The ledger: how fast facts become durable, and how soon interrupted work is known.

use std::process::Command;

use serde_json::Value;

use super::folder::Folder;
use super::{Bench, Row};
use crate::{Outcome, paths, run};

pub(super) const ABOUT: &str = "Commits through the ledger, each with lease, journal and audit log, beside commits of the same text into a \
     table with two columns; the two take turns, in one process, on one disk. Higher is better.";

const FINISHED: &str = "10000";
const INTERRUPTED: &str = "100";
const GOAL_RATIO: f64 = 0.8;
const GOAL_MS: f64 = 50.0;

pub(super) fn measure(_: &Bench) -> Outcome<Vec<Row>> {
    let build = ["build", "--quiet", "--locked", "--release", "--package", "backout-ledger"];
    run::run(run::cargo(&[&build[..], &["--example", "ledger_bench"]].concat())?)?;
    let folder = Folder::create("ledger")?;
    let sqlite = ask(&["journal-sqlite", &path(&folder, ".")])?;
    let postgres = ask(&["journal-postgres"])?;
    let recovery = ask(&["recovery", &path(&folder, "history"), FINISHED, INTERRUPTED])?;
    Ok(vec![
        commits("facts journaled a second, SQLite", "bare SQLite", &sqlite, Some(GOAL_RATIO))?,
        commits("facts journaled a second, PostgreSQL", "bare PostgreSQL", &postgres, None)?,
        recovered(&recovery)?,
    ])
}

fn path(folder: &Folder, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

fn ask(args: &[&str]) -> Outcome<Value> {
    let mut command = Command::new(paths::target_dir()?.join("release/examples/ledger_bench"));
    command.args(args);
    let said = run::output(command)?;
    serde_json::from_str(&said).map_err(|e| format!("failed to read {said:?}: {e}"))
}

fn number(said: &Value, name: &str) -> Outcome<f64> {
    said[name].as_f64().ok_or(format!("failed to find {name} in {said}"))
}

fn commits(name: &str, peer: &str, said: &Value, goal: Option<f64>) -> Outcome<Row> {
    let (ours, bare) = (number(said, "ours")?, number(said, "bare")?);
    let ratio = ours / bare;
    Ok(Row {
        name: name.to_owned(),
        ours: format!("{ours:.0}"),
        peer: format!("{peer} {bare:.0}"),
        ratio: Some(ratio),
        goal: goal.map_or_else(String::new, |goal| format!("ratio ≥ {goal}")),
        met: goal.map(|goal| ratio >= goal),
        how: "2 000 commits of one entry, in 20 turns of 100; every one durable before the next"
            .to_owned(),
        ..Row::default()
    })
}

fn recovered(said: &Value) -> Outcome<Row> {
    let middle = number(said, "median_ms")?;
    Ok(Row {
        name: "recovery: what 100 interrupted operations do next".to_owned(),
        ours: format!("{middle:.1} ms"),
        goal: format!("≤ {GOAL_MS:.0} ms"),
        met: Some(middle <= GOAL_MS),
        how: format!(
            "ledger closed → all of them read, folded and decided, among 10 000 finished ones; median of 50, fastest {:.1} ms, slowest {:.1} ms",
            number(said, "fastest_ms")?,
            number(said, "slowest_ms")?
        ),
        ..Row::default()
    })
}
