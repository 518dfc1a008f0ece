//! Going back with the git target, against a switched link and against git by hand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::compose::{json, step_ms, timed};
use super::figures::{median, quantile};
use super::folder::Folder;
use super::{Bench, Row};
use crate::{Outcome, run};

pub(super) const ABOUT: &str = "Restoring the commit before in a working tree of 400 files of which 40 differ, with the command after it, against \
     what a switched link would cost (rename + fsync + the same command) and against `git checkout` by hand with the same \
     promise (its files are on disk), taking turns; and what the proof of rollback readiness costs.";

const ROUNDS: usize = 15;
const GOAL_RATIO: f64 = 1.3;
const GOAL_SHARE: f64 = 0.10;
const FILES: usize = 400;
const DIFFERING: usize = 40;
const FILE_BYTES: usize = 2_000;

const CONFIG: &str = "\
app: bench
target: { git: { repository: site, post_checkout: [\"true\"] } }
health: { exec: { command: [\"true\"] }, consecutive_passes: 2, during_rollout: { interval: 100ms } }
bake_time: 1s
";

#[derive(Default)]
struct Times {
    restores: Vec<f64>,
    links: Vec<f64>,
    by_hand: Vec<f64>,
    deploys: Vec<f64>,
    proofs: Vec<f64>,
}

pub(super) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let folder = Folder::create("git")?;
    let path = folder.path();
    folder.write("backout.yaml", CONFIG)?;
    for name in ["site", "peer", "v1", "v2"] {
        let at = path.join(name);
        fs::create_dir(&at).map_err(|e| format!("failed to create {}: {e}", at.display()))?;
    }
    for tree in ["site", "peer"] {
        repository(&path.join(tree))?;
    }
    let ours = |args: &[&str]| {
        let mut command = Command::new(&bench.backout);
        command.args(["--state-dir", "state"]).args(args).current_dir(path);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    };
    let deploy = |version| ours(&["deploy", "--version", version, "--yes", "--format", "json"]);
    json(deploy("v1"))?;
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        json(deploy("v2"))?;
        times.deploys.push(began.elapsed().as_secs_f64() * 1000.0);
        times.proofs.push(timed(ours(&["status", "--check", "--format", "json"]))?);
        let answer = json(ours(&["rollback", "--yes", "--force", "--format", "json"]))?;
        times.restores.push(step_ms(&answer, "start")?);
        link(path, "v2")?;
        times.links.push(link(path, "v1")?);
        by_hand(&path.join("peer"), "v2")?;
        times.by_hand.push(by_hand(&path.join("peer"), "v1")?);
    }
    Ok(rows(&times))
}

/// Tags `v1` and `v2`; the first is checked out.
fn repository(tree: &Path) -> Outcome<()> {
    git(tree, &["init", "--quiet", "--initial-branch=main"])?;
    for (version, changed) in [("v1", FILES), ("v2", DIFFERING)] {
        for number in 0..changed {
            let text = format!("{version} {number}\n").repeat(FILE_BYTES / 8);
            let file = tree.join(format!("{}-{number}.txt", number % 7));
            fs::write(&file, text)
                .map_err(|e| format!("failed to write {}: {e}", file.display()))?;
        }
        git(tree, &["add", "--all"])?;
        let identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
        git(tree, &[&identity[..], &["commit", "--quiet", "--message", version]].concat())?;
        git(tree, &["tag", version])?;
    }
    git(tree, &["checkout", "--quiet", "--detach", "v1"])
}

fn git(tree: &Path, args: &[&str]) -> Outcome<()> {
    let mut command = Command::new("git");
    command.args(args).current_dir(tree).stdin(Stdio::null());
    run::run(command)
}

/// A link to the other release takes the place of the one that is there, durably; then the command.
fn link(folder: &Path, version: &str) -> Outcome<f64> {
    let failed = |e: std::io::Error| format!("failed to switch a link: {e}");
    let began = Instant::now();
    let (new, current) = (folder.join("current.new"), folder.join("current"));
    symlink(version, &new).map_err(failed)?;
    fs::rename(&new, &current).map_err(failed)?;
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    timed(Command::new("true"))?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

/// What a person would type, and the files on disk before it counts.
fn by_hand(tree: &Path, version: &str) -> Outcome<f64> {
    let began = Instant::now();
    git(tree, &["checkout", "--quiet", "--force", "--detach", version])?;
    let mut sync = Command::new("sync");
    sync.args(["--file-system", "."]).current_dir(tree);
    timed(sync)?;
    timed(Command::new("true"))?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

fn rows(times: &Times) -> Vec<Row> {
    let share = median(&times.proofs) / median(&times.deploys);
    let fastest = |values: &[f64]| quantile(values, 0.0);
    let restored = format!(
        "step `start` of a rollback; {ROUNDS} rounds; fastest {:.0} ms",
        fastest(&times.restores)
    );
    let link = ("rename + fsync + command", &times.links);
    let by_hand = ("git checkout + sync + command", &times.by_hand);
    let limit = format!(
        "what git itself needs for the same files: no checkout can come nearer to a link; fastest {:.1} ms against {:.1} ms",
        fastest(&times.by_hand),
        fastest(&times.links)
    );
    vec![
        with_goal(beside("restore against a link, median", &times.restores, link, &restored)),
        with_goal(beside("restore against git by hand, median", &times.restores, by_hand, &restored)),
        Row { ours: format!("git by hand {:.1} ms", median(&times.by_hand)), ..beside("the limit: git by hand against a link, median", &times.by_hand, link, &limit) },
        Row {
            name: "proof of readiness".to_owned(),
            ours: format!("{:.0} ms", median(&times.proofs)),
            peer: format!("its deploy {:.0} ms", median(&times.deploys)),
            ratio: Some(share),
            goal: format!("ratio ≤ {GOAL_SHARE}"),
            met: Some(share <= GOAL_SHARE),
            how: "`status --check` as a process of its own, which probes too; the deploy bakes for 1 s"
                .to_owned(),
            ..Row::default()
        },
    ]
}

fn beside(name: &str, ours: &[f64], (peer, theirs): (&str, &Vec<f64>), how: &str) -> Row {
    Row {
        name: name.to_owned(),
        ours: format!("{:.0} ms", median(ours)),
        peer: format!("{peer} {:.1} ms", median(theirs)),
        ratio: Some(median(ours) / median(theirs)),
        how: how.to_owned(),
        ..Row::default()
    }
}

fn with_goal(row: Row) -> Row {
    let met = row.ratio.map(|ratio| ratio <= GOAL_RATIO);
    Row { goal: format!("ratio ≤ {GOAL_RATIO}"), met, ..row }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_is_measured_against_a_link_and_against_itself() {
        let times = Times {
            restores: vec![30.0],
            links: vec![10.0],
            by_hand: vec![25.0],
            deploys: vec![1000.0],
            proofs: vec![50.0],
        };
        let rows = rows(&times);
        let met: Vec<Option<bool>> = rows.iter().map(|row| row.met).collect();
        assert_eq!(met, [Some(false), Some(true), None, Some(true)]);
        assert_eq!(rows[2].ratio, Some(2.5));
    }
}
