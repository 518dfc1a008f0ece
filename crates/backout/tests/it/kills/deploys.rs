//! Deploys that were cut off, and recoveries of them that were cut off.

use super::{at_each, can_be_seen, ended_well, quick};
use crate::support::{Service, World, Yaml};

const DEPLOY_V2: [&str; 4] = ["deploy", "--version", "v2", "--yes"];

/// `recover`, and what it must have come to: forward with 0, back with 10, nothing had begun with 0 or 1.
#[track_caller]
fn recovered(world: &World) {
    let ran = world.run(&["recover", "--yes", "--format", "json"]);
    let version = ended_well(world, &["v1", "v2"]);
    let open = ran.json()["open"] != false;
    match (ran.code, version.as_str(), open) {
        (Some(0), "v2", true) | (Some(10), "v1", true) | (Some(0), _, false) => {}
        (Some(1), "v1", true) => assert_eq!(world.row(2)["status"], "failed"),
        other => panic!("{other:?}\n{}\n{}", ran.stdout, ran.stderr),
    }
    // Nobody has to delete a lock, and nothing is in the way of the next one.
    world.deployed("v3");
    ended_well(world, &["v3"]);
}

fn side_by_side(yaml: &Yaml, instant: &str) {
    let world = World::new(yaml);
    world.deployed("v1");
    let load = world.load();
    world.run_killed(&DEPLOY_V2, instant);
    can_be_seen(&world);
    recovered(&world);
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "users were served all the time: {tally:?}");
}

#[test]
fn a_canary_is_finished_or_taken_back() {
    let instants = [
        "after_open:1",
        "after_effect/pin_artifacts:1",
        "before_intent/start:1",
        "after_intent/start:1",
        "after_effect/start:1",
        "before_outcome/start:1",
        "after_intent/await_ready:1",
        "after_intent/shift_traffic:1",
        "after_effect/shift_traffic:1",
        "after_intent/hold_20:1",
        "after_effect/shift_traffic:2",
        "after_intent/hold_60:1",
        "before_intent/shift_traffic:3",
        "after_effect/shift_traffic:3",
        "after_intent/bake:1",
        "after_intent/drain:1",
        "after_effect/stop:1",
        "before_outcome/prune:1",
        "before_end:1",
        "after_end:1",
    ];
    at_each(&instants, |instant| side_by_side(&quick(Yaml::default()), instant));
}

#[test]
fn a_blue_green_deploy_is_finished_or_taken_back() {
    let instants = [
        "after_intent/ensure_router:1",
        "after_effect/start:1",
        "after_intent/shift_traffic:1",
        "after_effect/shift_traffic:1",
        "after_intent/bake:1",
        "after_intent/stop:1",
        "after_effect/stop:1",
    ];
    at_each(&instants, |instant| side_by_side(&quick(Yaml::blue_green()), instant));
}

#[test]
fn a_recreate_is_finished_or_taken_back() {
    let instants = [
        "before_intent/stop:1",
        "after_intent/stop:1",
        "after_effect/stop:1",
        "before_intent/start:1",
        "after_intent/start:1",
        "after_effect/start:1",
        "after_intent/await_ready:1",
        "after_effect/shift_traffic:1",
        "after_intent/bake:1",
    ];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::recreate()));
        world.deployed("v1");
        world.run_killed(&DEPLOY_V2, instant);
        can_be_seen(&world);
        recovered(&world);
    });
}

#[test]
fn a_first_deployment_is_finished_or_removed() {
    let instants = [
        "after_effect/ensure_router:1",
        "after_intent/start:1",
        "after_effect/start:1",
        "after_effect/shift_traffic:1",
        "after_intent/bake:1",
    ];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::default()));
        world.run_killed(&["deploy", "--version", "v1", "--yes"], instant);
        can_be_seen(&world);
        let ran = world.run(&["recover", "--yes"]);
        match ran.code {
            Some(0) => assert_eq!(ended_well(&world, &["v1"]), "v1"),
            Some(1) => {
                world.expect_nothing_running();
                assert_eq!(world.status()["deployment"], serde_json::Value::Null);
            }
            other => panic!("{other:?}\n{}", ran.stderr),
        }
        world.deployed("v2");
        ended_well(&world, &["v2"]);
    });
}

#[test]
fn the_next_deploy_recovers_first() {
    let instants =
        ["after_intent/start:1", "after_effect/shift_traffic:1", "after_intent/hold_60:1"];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::default()));
        world.deployed("v1");
        let load = world.load();
        world.run_killed(&DEPLOY_V2, instant);
        can_be_seen(&world);
        world.deployed("v3");
        let tally = load.stop();
        assert_eq!(tally.failures(), 0, "{tally:?}");
        ended_well(&world, &["v3"]);
        let status = world.row(2)["status"].clone();
        assert!(status == "rolled_back" || status == "stable", "{status}");
    });
}

#[test]
fn a_rollback_or_down_never_goes_forward_first() {
    let instants = ["after_effect/start:1", "after_effect/shift_traffic:2", "after_intent/bake:1"];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::default()));
        world.deployed("v1");
        let load = world.load();
        world.run_killed(&DEPLOY_V2, instant);
        world.rollback(&["--reason", "it was cut off"]).expect(0);
        let tally = load.stop();
        assert_eq!(tally.failures(), 0, "{tally:?}");
        assert_eq!(ended_well(&world, &["v1"]), "v1");
        assert_eq!(world.row(2)["status"], "rolled_back");
        world.run_killed(&["deploy", "--version", "v3", "--yes"], instant);
        world.run(&["down", "--yes"]).expect(0);
        world.expect_nothing_running();
    });
}

#[test]
fn a_recovery_that_is_cut_off_is_recovered() {
    // Where the recovery is killed; the deploy before it always was in its second stage, and goes on from there.
    let forward = [
        "after_intent/hold_60:1",
        "after_effect/shift_traffic:1",
        "after_intent/bake:1",
        "after_effect/stop:1",
        "before_end:1",
    ];
    at_each(&forward, |instant| {
        let world = World::new(&quick(Yaml::default()));
        world.deployed("v1");
        let load = world.load();
        world.run_killed(&DEPLOY_V2, "after_intent/hold_60:1");
        world.run_killed(&["recover", "--yes"], instant);
        can_be_seen(&world);
        recovered(&world);
        let tally = load.stop();
        assert_eq!(tally.failures(), 0, "{tally:?}");
    });
}

#[test]
fn a_recovery_on_its_way_back_that_is_cut_off_is_recovered() {
    let back = [
        "before_hand_over:1",
        "after_hand_over:1",
        "after_intent/verify:1",
        "after_effect/stop:1",
        "before_end:1",
    ];
    at_each(&back, |instant| {
        let world = World::new(&quick(Yaml::default()));
        world.deployed("v1");
        world.build(Service { flags: "--never-ready", ..Service::default() });
        let load = world.load();
        world.run_killed(&DEPLOY_V2, "after_intent/await_ready:1");
        world.run_killed(&["recover", "--yes"], instant);
        can_be_seen(&world);
        let ran = world.run(&["recover", "--yes"]);
        assert!(matches!(ran.code, Some(0 | 10)), "{ran:?}");
        assert_eq!(ended_well(&world, &["v1"]), "v1");
        let tally = load.stop();
        assert_eq!(tally.failures(), 0, "{tally:?}");
        assert_eq!(world.history().len(), 3, "{:?}", world.story());
    });
}

#[test]
fn a_down_that_is_cut_off_is_finished() {
    let instants = [
        "after_open:1",
        "after_intent/remove_route:1",
        "after_effect/remove_route:1",
        "after_intent/stop:1",
        "after_effect/stop:1",
        "before_end:1",
    ];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::blue_green()));
        world.deployed("v1");
        world.run_killed(&["down", "--yes"], instant);
        can_be_seen(&world);
        world.run(&["down", "--yes"]).expect(0);
        world.expect_nothing_running();
        assert_eq!(world.status()["operation"], serde_json::Value::Null);
        world.deployed("v2");
        ended_well(&world, &["v2"]);
        world.run_killed(&["down", "--yes"], instant);
        world.run(&["recover", "--yes"]).expect(0);
        world.expect_nothing_running();
    });
}
