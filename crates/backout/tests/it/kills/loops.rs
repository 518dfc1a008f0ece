//! Twenty crashes in one and the same step, and an undo that fails for good: the tries are counted before they are
//! made, so it ends, says so, and every way on from there works.

use serde_json::Value;

use crate::support::{Ran, World};
use crate::sweep::{Scene, kept, scene_of};

/// More than any step has tries.
const CRASHES: usize = 20;

/// Crashes in this step again and again; what ended it.
pub fn crash_in(scene: &Scene, world: &World, step: &str) -> Ran {
    crash_at(scene, world, &format!("after_intent/{step}:1"))
}

/// Crashes there again and again; what ended it.
fn crash_at(scene: &Scene, world: &World, at: &str) -> Ran {
    let begun = world.state_dir().exists() && world.status()["operation"] != Value::Null;
    let command = if begun { &["recover", "--yes"][..] } else { scene.command };
    let mut ran = world.run_with(command, &[("BACKOUT_KILL_AT", at)]);
    let mut crashes = 0;
    while ran.signal == Some(9) {
        crashes += 1;
        assert!(crashes < CRASHES, "{}: it goes on crashing at {at}", scene.name);
        ran = world.run_with(&["recover", "--yes"], &[("BACKOUT_KILL_AT", at)]);
    }
    assert!(crashes > 0, "{} never came to {at}", scene.name);
    ran
}

/// From *stuck*: it is loud, and `recover`, `retry`, `rollback` and `resolve` work, each in a copy of this world.
fn every_way_on_works(scene: &Scene, stuck: &World, step: &str) {
    let status = stuck.status();
    assert_eq!(status["operation"]["step"], step, "{status:#}");
    assert_eq!(status["watched_by"], Value::Null, "the lease is free");
    let said = stuck.run(&["status"]).expect(0).stdout;
    assert!(said.contains("STUCK") && said.contains("backout resolve"), "{said}");
    let ways: [&[&str]; 4] = [
        &["recover", "--yes"],
        &["retry"],
        &["rollback", "--force", "--yes", "--reason", "stuck"],
        &["resolve", "--reason", "seen to by hand", "--yes"],
    ];
    for way in ways {
        let world = scene.copied(stuck);
        let ran = world.run(way);
        assert!(matches!(ran.code, Some(0 | 10)), "{} in {step}: {ran:?}", scene.name);
        let status = world.status();
        assert_eq!(status["operation"], Value::Null, "{way:?}: {status:#}");
        assert_eq!(status["watched_by"], Value::Null);
        // Whatever was done, the next one is not in the way of anything.
        world.deployed("v9");
        assert_eq!(world.status()["version"], "v9");
        kept(&world);
    }
}

#[test]
fn a_step_that_crashes_each_time_comes_to_an_end() {
    // Before the pivot a deploy goes back; what is advisory is left out.
    let cases = [
        ("script deploy", "start", &[0, 10][..]),
        ("script deploy", "await_ready", &[10]),
        ("script deploy", "bake", &[10]),
        ("script deploy", "prune", &[0]),
        ("script stages deploy", "shift_traffic", &[0, 10]),
        ("script stages deploy", "hold_50", &[10]),
        ("script first", "start", &[1]),
        ("script first", "bake", &[1]),
    ];
    for (name, step, codes) in cases {
        let scene = scene_of(name);
        let world = scene.prepared();
        let ran = crash_in(&scene, &world, step);
        assert!(codes.contains(&ran.code.unwrap_or(-1)), "{name} in {step}: {ran:?}");
        assert_eq!(world.status()["operation"], Value::Null, "{name} in {step}");
        world.deployed("v9");
        kept(&world);
    }
}

#[test]
fn a_step_with_no_other_way_gets_stuck_and_every_way_on_works() {
    let cases = [
        ("script rollback", "start"),
        ("script rollback", "verify"),
        ("script stages rollback", "shift_traffic"),
        ("script stages deploy", "stop"),
    ];
    for (name, step) in cases {
        let scene = scene_of(name);
        let world = scene.prepared();
        let ran = crash_in(&scene, &world, step).expect(12);
        assert!(ran.stderr.contains(step) && ran.stderr.contains("backout retry"), "{ran:?}");
        every_way_on_works(&scene, &world, step);
        kept(&world);
    }
}

/// Tries are counted as they begin. A crash that comes before that is counted by who took the operation up.
#[test]
fn a_crash_before_every_intent_comes_to_an_end_too() {
    let scene = scene_of("script rollback");
    for at in ["before_intent/start:1", "before_observe/start:1", "after_resume/resume:1"] {
        let world = scene.prepared();
        if !at.starts_with("before_intent") {
            world.run_killed(scene.command, "after_intent/start:1");
        }
        let ran = crash_at(&scene, &world, at).expect(12);
        assert!(ran.stderr.contains("one after the other"), "{at}: {ran:?}");
        every_way_on_works(&scene, &world, &current_step(&world));
        kept(&world);
    }
    // A deploy that is told to go back, and never comes to that, either.
    let scene = scene_of("script stages deploy");
    let world = scene.prepared();
    world.run_killed(scene.command, "after_intent/await_ready:1");
    let ran = crash_at(&scene, &world, "after_resume/resume:1").expect(12);
    assert!(ran.stderr.contains("one after the other"), "{ran:?}");
    every_way_on_works(&scene, &world, &current_step(&world));
    kept(&world);
}

fn current_step(world: &World) -> String {
    world.status()["operation"]["step"].as_str().unwrap().to_owned()
}

#[test]
fn an_undo_that_fails_for_good_is_loud_and_every_way_on_works() {
    let scene = scene_of("script bad");
    let world = scene.prepared();
    let good = world.read("deploy.sh");
    let broken =
        good.replace("  deploy|rollback)", "  rollback) echo no disk >&2; exit 1 ;;\n  deploy)");
    assert_ne!(broken, good);
    world.script("deploy.sh", &broken);
    let ran = world.run(scene.command).expect(12);
    assert!(ran.stderr.contains("no disk") && ran.stderr.contains("backout resolve"), "{ran:?}");
    // As long as it is broken, going on ends there again, and nothing else is touched.
    let before = world.read("runs-a");
    world.run(&["recover", "--yes"]).expect(12);
    world.run(&["retry"]).expect(12);
    assert_eq!(world.read("runs-a"), before);
    world.script("deploy.sh", &good);
    every_way_on_works(&scene, &world, "start");
    kept(&world);
}
