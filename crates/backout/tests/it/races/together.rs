//! Two deploys and a rollback begin at once, with real processes, again and again.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::Duration;

use serde_json::Value;

use super::stages;
use crate::support::{Ran, World};
use crate::sweep::{Options, kept};

/// Rounds for continuous integration; `cargo xtask sweep races` runs fifty.
const ROUNDS: usize = 4;
const ALL_ROUNDS: usize = 50;

/// All begin at the same instant.
fn at_once(world: &World, commands: &[&[&str]]) -> Vec<(u32, Ran)> {
    let barrier = Barrier::new(commands.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = commands
            .iter()
            .map(|command| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let running = world.spawn(command);
                    (running.pid(), running.wait())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Fails unless who was refused was told by whom.
fn names_the_holder(refused: &Ran, pids: &[u32]) {
    let named = pids.iter().any(|pid| refused.stderr.contains(&format!(":{pid} is busy with")));
    assert!(named, "it names none of {pids:?}: {}", refused.stderr);
}

fn round(world: &World) {
    let deploy = |version| ["deploy", "--version", version, "--yes"];
    let (second, third) = (deploy("v2"), deploy("v3"));
    let ran = at_once(world, &[&second, &third]);
    let pids: Vec<u32> = ran.iter().map(|(pid, _)| *pid).collect();
    let codes: BTreeSet<Option<i32>> = ran.iter().map(|(_, ran)| ran.code).collect();
    assert_eq!(codes, BTreeSet::from([Some(0), Some(5)]), "one is accepted: {ran:?}");
    for (_, ran) in ran.iter().filter(|(_, ran)| ran.code == Some(5)) {
        names_the_holder(ran, &pids);
    }
    let status = world.status();
    assert_eq!((&status["operation"], &status["watched_by"]), (&Value::Null, &Value::Null));
    assert_eq!(world.history().len(), 2, "{:?}", world.story());
    let live = status["version"].as_str().unwrap().to_owned();
    let runs = ["a", "b"].map(|slot| world.read(&format!("runs-{slot}")).trim().to_owned());
    assert_eq!(runs.concat(), live, "one version runs");
}

/// Two persons go back at once: one does, the other is told who, and nothing is done twice.
fn two_ways_back(world: &World) {
    let back: &[&str] = &["rollback", "--force", "--yes", "--reason", "race"];
    let before = world.history().len();
    let ran = at_once(world, &[back, back]);
    let pids: Vec<u32> = ran.iter().map(|(pid, _)| *pid).collect();
    // The second finds either the first at work, or nothing left that it could go back to.
    assert!(ran.iter().any(|(_, ran)| ran.code == Some(0)), "{ran:?}");
    for (_, ran) in ran.iter().filter(|(_, ran)| ran.code != Some(0)) {
        assert!(matches!(ran.code, Some(4 | 5)), "{ran:?}");
        if ran.code == Some(5) {
            names_the_holder(ran, &pids);
        }
    }
    assert_eq!(world.history().len(), before + 1, "{:?}", world.story());
    assert_eq!(world.status()["version"], "v1");
}

#[test]
fn of_several_commands_at_once_one_is_accepted() {
    let options = Options::from_env(ROUNDS, Duration::from_secs(60));
    let rounds = options.sample.unwrap_or(ALL_ROUNDS);
    for _ in 0..rounds {
        // Long enough that the other one comes within its stages even on a busy machine.
        let world = stages("3s");
        round(&world);
        two_ways_back(&world);
        kept(&world);
    }
}
