//! Going back with the git target, against a switched link and against git by hand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::compose::{json, timed};
use super::figures::{median, quantile};
use super::folder::Folder;
use super::restore::{proof, with_goal};
use super::spent::{self, Spent};
use super::{Bench, Row};
use crate::{Outcome, run};

pub(super) const ABOUT: &str = "Restoring the commit before of 400 files of which 40 differ, with the command after it, in both layouts: in a \
     working tree that releases take turns in, against `git checkout` by hand with the same promise (its files are on disk), \
     and behind a link to worktrees (`current`), against rename + fsync + the same command, taking turns. A restore is what the \
     target does in step `start`, as its receipt in the journal says in microseconds; beside it stands the same with the commit \
     of the intent before it. And what the proof of rollback readiness costs.";

const ROUNDS: usize = 15;
const FILES: usize = 400;
const DIFFERING: usize = 40;
const FILE_BYTES: usize = 2_000;

const CONFIG: &str = "\
app: bench
target: { git: { repository: site, post_checkout: [COMMAND]LAYOUT } }
health: { exec: { command: [\"true\"] }, consecutive_passes: 2, during_rollout: { interval: 100ms } }
bake_time: 1s
";
/// The shortest command that there is: all that is ours shows.
const NOTHING: &[&str] = &["true"];
/// What a server takes at least to read its files again.
const RELOAD: &[&str] = &["sleep", "0.01"];
/// Beside what a person's own link is in.
const LINKED: &str = ", current: served/current";

#[derive(Default)]
struct Times {
    restores: Vec<f64>,
    linked: Vec<f64>,
    linked_spans: Vec<f64>,
    links: Vec<f64>,
    reloads: Vec<f64>,
    reloaded_links: Vec<f64>,
    by_hand: Vec<f64>,
    deploys: Vec<f64>,
    proofs: Vec<f64>,
}

pub(super) fn measure(bench: &Bench) -> Outcome<Vec<Row>> {
    let turns = Folder::create("git")?;
    let linked = Folder::create("git-linked")?;
    let reloading = Folder::create("git-reloading")?;
    let all = [(&turns, "", NOTHING), (&linked, LINKED, NOTHING), (&reloading, LINKED, RELOAD)];
    for (folder, layout, command) in all {
        let path = folder.path();
        let words = command.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>();
        let config = CONFIG.replace("COMMAND", &words.join(", ")).replace("LAYOUT", layout);
        folder.write("backout.yaml", &config)?;
        for name in ["site", "peer", "v1", "v2"] {
            let at = path.join(name);
            fs::create_dir(&at).map_err(|e| format!("failed to create {}: {e}", at.display()))?;
        }
        for tree in ["site", "peer"] {
            repository(&path.join(tree))?;
        }
    }
    let [turns, linked, reloading] =
        [&turns, &linked, &reloading].map(|folder| Ours { bench, folder: folder.path() });
    let mut times = Times::default();
    turns.deploy("v1")?;
    linked.deploy("v1")?;
    reloading.deploy("v1")?;
    for _ in 0..ROUNDS {
        times.deploys.push(turns.deploy("v2")?);
        times.proofs.push(timed(turns.call(&["status", "--check", "--format", "json"]))?);
        times.restores.push(turns.restore()?.effect_ms);
        by_hand(&turns.folder.join("peer"), "v2")?;
        times.by_hand.push(by_hand(&turns.folder.join("peer"), "v1")?);
        linked.deploy("v2")?;
        let restored = linked.restore()?;
        times.linked.push(restored.effect_ms);
        times.linked_spans.push(restored.span_ms);
        link(linked.folder, "v2", NOTHING)?;
        times.links.push(link(linked.folder, "v1", NOTHING)?);
        reloading.deploy("v2")?;
        times.reloads.push(reloading.restore()?.effect_ms);
        link(reloading.folder, "v2", RELOAD)?;
        times.reloaded_links.push(link(reloading.folder, "v1", RELOAD)?);
    }
    Ok(rows(&times))
}

/// One app of ours.
struct Ours<'a> {
    bench: &'a Bench,
    folder: &'a Path,
}

impl Ours<'_> {
    fn call(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.bench.backout);
        command.args(["--state-dir", "state"]).args(args).current_dir(self.folder);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// How long the whole command took, milliseconds.
    fn deploy(&self, version: &str) -> Outcome<f64> {
        let began = Instant::now();
        json(self.call(&["deploy", "--version", version, "--yes", "--format", "json"]))?;
        Ok(began.elapsed().as_secs_f64() * 1000.0)
    }

    fn restore(&self) -> Outcome<Spent> {
        let answer = json(self.call(&["rollback", "--yes", "--force", "--format", "json"]))?;
        spent::in_step(&answer, "start", |args| self.call(args))
    }
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
fn link(folder: &Path, version: &str, command: &[&str]) -> Outcome<f64> {
    let failed = |e: std::io::Error| format!("failed to switch a link: {e}");
    let (new, current) = (folder.join("current.new"), folder.join("current"));
    // As long as ours: file systems keep short ones elsewhere than long ones.
    let ours = fs::read_link(folder.join("served/current")).map_err(failed)?.as_os_str().len();
    let text = format!("{}{version}", "./".repeat(ours.saturating_sub(version.len()) / 2));
    let began = Instant::now();
    symlink(text, &new).map_err(failed)?;
    fs::rename(&new, &current).map_err(failed)?;
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    let mut after = Command::new(command[0]);
    after.args(&command[1..]);
    timed(after)?;
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
    let fastest = |values: &[f64]| quantile(values, 0.0);
    let said = |values: &[f64]| {
        let fastest = fastest(values);
        format!(
            "step `start` of a rollback, as its receipt says; {ROUNDS} rounds; fastest {fastest:.2} ms"
        )
    };
    let link = ("rename + fsync + command", &times.links);
    let by_hand = ("git checkout + sync + command", &times.by_hand);
    let limit = format!(
        "what git itself needs for the same files: no checkout can come nearer to a link, which `current` is for; fastest \
         {:.1} ms against {:.1} ms",
        fastest(&times.by_hand),
        fastest(&times.links)
    );
    vec![
        with_goal(beside(
            "restore behind a link against a link, median",
            &times.linked,
            link,
            &said(&times.linked),
        )),
        with_goal(beside(
            "the same with a command of 10 ms, median",
            &times.reloads,
            ("rename + fsync + command", &times.reloaded_links),
            "the first row with `sleep 0.01`: what a server takes at least to read its files again; ours goes on meanwhile",
        )),
        beside(
            "the first with the commit of its intent, median",
            &times.linked_spans,
            link,
            "by the times of the journal's entries: the ledger's part is the same for every target",
        ),
        with_goal(beside(
            "restore in the tree against git by hand, median",
            &times.restores,
            by_hand,
            &said(&times.restores),
        )),
        Row {
            ours: format!("git by hand {:.1} ms", median(&times.by_hand)),
            ..beside("the limit: git by hand against a link, median", &times.by_hand, link, &limit)
        },
        proof(&times.deploys, &times.proofs),
    ]
}

fn beside(name: &str, ours: &[f64], (peer, theirs): (&str, &Vec<f64>), how: &str) -> Row {
    Row {
        name: name.to_owned(),
        ours: format!("{:.2} ms", median(ours)),
        peer: format!("{peer} {:.2} ms", median(theirs)),
        ratio: Some(median(ours) / median(theirs)),
        how: how.to_owned(),
        ..Row::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layout_is_measured_against_its_own_peer() {
        let times = Times {
            restores: vec![25.0],
            linked: vec![14.0],
            linked_spans: vec![15.0],
            links: vec![10.0],
            reloads: vec![13.0],
            reloaded_links: vec![11.0],
            by_hand: vec![20.0],
            deploys: vec![1000.0],
            proofs: vec![50.0],
        };
        let rows = rows(&times);
        let met: Vec<Option<bool>> = rows.iter().map(|row| row.met).collect();
        // 14 against 10, 13 against 11, 15 against 10, 25 against 20, 20 against 10, 50 against 1000.
        assert_eq!(met, [Some(false), Some(true), None, Some(true), None, Some(true)]);
        assert_eq!((rows[2].ratio, rows[4].ratio), (Some(1.5), Some(2.0)));
    }
}
