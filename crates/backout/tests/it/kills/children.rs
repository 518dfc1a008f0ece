//! The command dies while its script is at work, or has only just been started: never two of them live for a step,
//! and none outlives what comes next.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{World, wait_until};
use crate::sweep::{Call, Fate, kept, scene_of, trace};

/// Notes when a changing call finds another one alive; works for a second, its own child included.
const SLOW: &str = r#"#!/bin/sh
lives() { read -r _ _ state _ < "/proc/$1/stat" && [ "$state" != Z ]; }
begin() {
  echo "$BACKOUT_STEP_ID $1" >> calls
  if [ -e live ] && lives "$(cat live)" 2>/dev/null; then echo "$BACKOUT_STEP_ID $1" >> overlap; fi
  echo $$ > live
  [ -e slow ] && sleep 1.17
  true
}
case "$1" in
  deploy|rollback) begin "$1"; echo "$BACKOUT_VERSION" > "runs-$BACKOUT_SLOT" ;;
  status) cat "runs-$BACKOUT_SLOT" 2>/dev/null; exit 0 ;;
  stop) begin "$1"; rm -f "runs-$BACKOUT_SLOT" ;;
  *) exit 64 ;;
esac
"#;

const DEPLOY: [&str; 4] = ["deploy", "--version", "v2", "--yes"];

fn prepared() -> World {
    let world = scene_of("script deploy").prepared();
    world.script("deploy.sh", SLOW);
    world.write("slow", "");
    world
}

/// Calls of the script that are alive.
fn at_work(world: &World) -> usize {
    let script = format!("{}\0", "./deploy.sh");
    let folder = world.folder();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| {
            let here = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder);
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            here && (words.contains(&script) || words.contains("deploy.sh"))
        })
        .count()
}

/// Whatever comes next: the call that was left is over, nothing ran beside it, and the target is as if once.
fn nothing_twice(world: &World, then: &[&str]) {
    let ran = world.run(then);
    assert!(matches!(ran.code, Some(0 | 1 | 10)), "{ran:?}");
    assert_eq!(world.read("overlap"), "", "two were alive at once");
    wait_until("the end of every call", || at_work(world) == 0);
    let live = world.status()["version"].as_str().unwrap().to_owned();
    assert_eq!(world.read("runs-a").trim(), live, "{:?}", world.story());
    kept(world);
}

/// The calls around the start of the script that changes something: it is announced, started, noted and forgotten.
fn around_the_start() -> Vec<usize> {
    let world = prepared();
    let mut around = Vec::new();
    let mut seen = 0;
    trace(&world.command(&DEPLOY), &mut |call: &Call| {
        seen = call.nth;
        let noted = call.subject.contains("/scripts/") || call.second.contains("/scripts/");
        if noted || (call.name == "start" && !around.is_empty()) {
            around.push(call.nth);
        }
        Fate::Go
    });
    kept(&world);
    assert!(around.len() > 8 && around.len() < seen, "{around:?} of {seen}");
    around
}

#[test]
fn a_call_that_was_just_started_is_found() {
    let around = around_the_start();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(nth) = around.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let world = prepared();
                    let fate = |call: &Call| if call.nth == *nth { Fate::Kill } else { Fate::Go };
                    trace(&world.command(&DEPLOY), &mut { fate });
                    nothing_twice(&world, &["recover", "--yes"]);
                }
            });
        }
    });
}

#[test]
fn a_call_at_work_is_ended_before_anything_else_begins() {
    let ways: [&[&str]; 3] = [
        &["recover", "--yes"],
        &["rollback", "--force", "--yes", "--reason", "it died"],
        &["deploy", "--version", "v3", "--yes"],
    ];
    std::thread::scope(|scope| {
        for way in ways {
            scope.spawn(move || {
                let world = prepared();
                let deploy = world.spawn(&DEPLOY);
                wait_until("the call", || world.read("calls").lines().count() == 2);
                deploy.signal(rustix::process::Signal::KILL);
                deploy.wait();
                assert_eq!(at_work(&world).min(1), 1, "it goes on without its caller");
                nothing_twice(&world, way);
            });
        }
    });
}

#[test]
fn a_way_back_that_is_at_work_is_not_taken_for_done() {
    // The script does its work first and cleans up then: what runs looks right while it is still at it.
    let world = scene_of("script rollback").prepared();
    let early = SLOW.replace(
        r#"begin "$1"; echo "$BACKOUT_VERSION" > "runs-$BACKOUT_SLOT" ;;"#,
        r#"echo "$BACKOUT_VERSION" > "runs-$BACKOUT_SLOT"; begin "$1" ;;"#,
    );
    assert_ne!(early, SLOW);
    world.script("deploy.sh", &early);
    world.write("slow", "");
    let before = world.read("calls").lines().count();
    let back = world.spawn(&["rollback", "--force", "--yes", "--reason", "slow"]);
    wait_until("the call", || world.read("calls").lines().count() > before);
    back.signal(rustix::process::Signal::KILL);
    back.wait();
    world.run(&["recover", "--yes"]).expect(0);
    assert_eq!(at_work(&world), 0, "it was ended before the step counted as done");
    assert_eq!(world.read("overlap"), "");
    assert_eq!(
        (world.read("runs-a").trim(), world.status()["version"].as_str()),
        ("v1", Some("v1"))
    );
    kept(&world);
}
