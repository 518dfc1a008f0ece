//! What must hold after any kill and what came after it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::outbox;
use super::scene::{DRILL, EJECT, ROLLBACK, STARTS, Scene, Target};
use crate::support::{World, wait_until};

/// Fails with what does not hold.
pub fn check(scene: &Scene, world: &World, kills: usize) {
    let status = world.status();
    assert_eq!(status["operation"], Value::Null, "nothing is under way: {status:#}");
    assert_eq!(status["watched_by"], Value::Null, "the lease is free: {status:#}");
    let live = status["version"].as_str().unwrap_or("-").to_owned();
    assert!(scene.ends.contains(&live.as_str()), "{live} is live, not one of {:?}", scene.ends);
    rows(world, &live);
    outbox::check(world);
    if scene.command == DRILL {
        drilled(scene, world);
    }
    if scene.command == EJECT {
        let_go(scene, world, &live);
    }
    // Where nothing is live any more, something may go on all the same.
    let runs = scene.goes_on.unwrap_or(&live);
    if scene.is_script() {
        calls(world, kills);
        slots(scene, world, runs);
    } else {
        starts(scene, world, kills);
        processes(scene, world, runs);
    }
}

/// It has made no deployment, and called no script; a script's folder knows of no drill.
fn drilled(scene: &Scene, world: &World) {
    if scene.then == ROLLBACK {
        return;
    }
    assert_eq!(world.history().len(), scene.live.len(), "a drill is no deployment");
    let calls = world.read("calls");
    assert_eq!(calls.lines().count(), if scene.is_script() { scene.live.len() } else { 0 });
    let status = world.status();
    assert_eq!(status["slots"].as_array().unwrap().len(), 1, "its slot is empty: {status:#}");
}

/// Let go is all or nothing: what is not live any more has nothing of ours beside it, and nothing to go back to.
fn let_go(scene: &Scene, world: &World, live: &str) {
    let remembered = world.state_dir().join("scripts/shop/production");
    if live == "-" {
        assert!(!remembered.exists(), "{} is left", remembered.display());
        let status = world.status();
        assert_eq!(status["rollback_readiness"], Value::Null, "{status:#}");
    } else if scene.is_script() {
        assert!(remembered.exists(), "what is live is still known");
    }
}

/// Every record is at an end, and what was acknowledged before is there.
fn rows(world: &World, live: &str) {
    let history = world.history();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or("-").to_owned();
    for row in &history {
        let status = text(row, "status");
        assert!(
            ["stable", "baking", "failed", "rolled_back", "superseded"].contains(&status.as_str()),
            "#{} ended as {status}",
            row["number"]
        );
    }
    let numbers: Vec<u64> = history.iter().filter_map(|row| row["number"].as_u64()).collect();
    let expected: Vec<u64> = (1..=numbers.len() as u64).rev().collect();
    assert_eq!(numbers, expected, "no record is missing");
    if live != "-" {
        let shown = history.iter().find(|row| text(row, "version") == live).unwrap();
        assert_ne!(shown["rejected"], true, "users are on a rejected release");
    }
}

/// Each effect was asked for once, and once more for each kill at most.
fn calls(world: &World, kills: usize) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in world.read("calls").lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    let most = 1 + kills;
    let often: Vec<_> = counts.iter().filter(|(_, count)| **count > most).collect();
    assert!(often.is_empty(), "applied more than {most} times: {often:?}");
}

/// What a script left is what one clean run leaves.
fn slots(scene: &Scene, world: &World, live: &str) {
    let runs = ["a", "b"].map(|slot| world.read(&format!("runs-{slot}")).trim().to_owned());
    let running: Vec<&String> = runs.iter().filter(|version| !version.is_empty()).collect();
    if live == "-" {
        assert!(running.is_empty(), "nothing is live, but {running:?} run");
        return;
    }
    assert_eq!(running, [live], "one version runs");
    if scene.target == Target::ScriptStages {
        let slot = if runs[0] == live { "a" } else { "b" };
        let traffic = world.read("traffic");
        // `update-traffic P` speaks of the newer side; a first deployment gets everything at once.
        let last = traffic.lines().last().unwrap_or_default();
        let (percent, side) = last.split_once(' ').unwrap_or(("100", slot));
        let fits = if side == slot { percent == "100" } else { percent == "0" };
        assert!(fits, "slot {slot} is live, but traffic was last moved so: {last:?}");
    }
}

/// No release was started more often than kills explain.
fn starts(scene: &Scene, world: &World, kills: usize) {
    let starts = world.read(STARTS);
    for version in starts.lines().collect::<BTreeSet<_>>() {
        let count = starts.lines().filter(|line| *line == version).count();
        // One that is gone back to may be started again.
        let again = usize::from(scene.live.contains(&version));
        assert!(count <= 1 + again + kills, "{version} was started {count} times");
    }
}

fn processes(scene: &Scene, world: &World, live: &str) {
    if live == "-" {
        wait_until("the last process to end", || world.processes().is_empty());
        return;
    }
    assert_eq!(world.serving(), BTreeSet::from([live.to_owned()]), "users get what is live");
    assert_eq!(world.running(), [live], "one program");
    assert_eq!(world.supervisors().len(), 1, "one supervisor: {:?}", world.supervisors());
    let proxies = usize::from(scene.target != Target::Alone);
    assert_eq!(world.proxies().len(), proxies, "{:?}", world.proxies());
}
