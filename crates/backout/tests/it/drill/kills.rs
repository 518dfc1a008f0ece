//! kill −9 of a drill at any moment: whatever comes next leaves nothing of it running.

use super::drill;
use crate::kills::{at_each, quick};
use crate::support::{World, Yaml};

fn two() -> World {
    let world = World::new(&quick(Yaml::blue_green()).bake("0s"));
    world.deployed("v1");
    world.deployed("v2");
    world
}

#[track_caller]
fn as_before(world: &World) {
    assert_eq!(world.running(), ["v2"], "nothing of the drill is left running");
    assert_eq!(world.supervisors().len(), 1, "{:?}", world.supervisors());
    world.expect_serving("v2");
    assert_eq!(world.status()["operation"], serde_json::Value::Null);
    assert_eq!(world.story(), ["#2 deploy v2 stable", "#1 deploy v1 stable"]);
}

#[test]
fn recover_ends_what_is_left() {
    let instants = [
        "after_claim:1",
        "after_open:1",
        "before_intent/start:1",
        "after_intent/start:1",
        "after_effect/start:1",
        "before_outcome/start:1",
        "after_intent/rehearse:1",
        "during_effect/rehearse:1",
        "after_effect/rehearse:1",
        "after_intent/stop:1",
        "after_effect/stop:1",
        "before_end:1",
        "after_end:1",
    ];
    at_each(&instants, |instant| {
        let world = two();
        world.run_killed(&["drill", "--yes"], instant);
        world.expect_serving("v2");
        world.run(&["recover", "--yes", "--format", "json"]).expect(0);
        as_before(&world);
        // The next one is not hindered, and shows it.
        let shown = drill(&world, &[]).expect(0).json();
        assert_eq!(shown["passed"], true, "{shown:#}");
        as_before(&world);
    });
}

#[test]
fn so_do_a_deploy_and_a_rollback() {
    at_each(&["after_effect/start:1", "during_effect/rehearse:1"], |instant| {
        let world = two();
        world.run_killed(&["drill", "--yes"], instant);
        world.deployed("v3");
        assert_eq!(world.running(), ["v3"]);
        world.expect_serving("v3");
        world.run_killed(&["drill", "--yes"], instant);
        let before = world.running();
        assert_eq!(before, ["v2", "v3"], "the drill was cut off with v2 beside v3");
        world.rollback(&["--force"]).expect(0);
        assert_eq!(world.running(), ["v2"]);
        world.expect_serving("v2");
    });
}

#[test]
fn a_signal_ends_it_at_once() {
    let world = two();
    let mut command = world.command(&["drill", "--yes"]);
    command.env("BACKOUT_DWELL_AT", "during_effect/rehearse:1");
    let drilling = world.spawn_command(command);
    world.wait_for_step("rehearse");
    drilling.signal(rustix::process::Signal::TERM);
    drilling.wait().expect(3);
    as_before(&world);
}
