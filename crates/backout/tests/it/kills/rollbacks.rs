//! Rollbacks that were cut off: automatic ones and those by hand, to a warm side and to a cold one.

use super::{at_each, can_be_seen, ended_well, quick};
use crate::support::{Service, World, Yaml};

/// `recover` finishes a rollback: it never goes to the release that was left.
#[track_caller]
fn finished(world: &World, rows: usize) {
    can_be_seen(world);
    let ran = world.run(&["recover", "--yes", "--format", "json"]);
    assert!(matches!(ran.code, Some(0 | 10)), "{ran:?}");
    assert_eq!(ended_well(world, &["v1"]), "v1");
    assert_eq!(world.history().len(), rows, "{:?}", world.story());
    assert_eq!(world.row(2)["status"], "rolled_back", "{:?}", world.story());
    // Doing it again is not needed, and does nothing.
    let document = world.run(&["recover", "--yes", "--format", "json"]).expect(0).json();
    assert_eq!(document["open"], false);
    assert_eq!(world.history().len(), rows);
}

#[test]
fn one_to_a_cold_release() {
    let instants = [
        "after_open:1",
        "after_intent/start:1",
        "after_effect/start:1",
        "after_intent/await_ready:1",
        "after_intent/shift_traffic:1",
        "after_effect/shift_traffic:1",
        "after_intent/verify:1",
        "after_effect/stop:1",
        "before_end:1",
        "after_end:1",
    ];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::blue_green()));
        world.deployed("v1");
        world.deployed("v2");
        let load = world.load();
        world.run_killed(&["rollback", "--force", "--yes"], instant);
        finished(&world, 3);
        let tally = load.stop();
        assert_eq!(tally.failures(), 0, "{tally:?}");
        assert_eq!(world.row(2)["rejected"], true);
    });
}

#[test]
fn one_to_the_warm_side() {
    let instants = [
        "before_intent/shift_traffic:1",
        "after_intent/shift_traffic:1",
        "after_effect/shift_traffic:1",
        "after_intent/verify:1",
        "after_effect/drain:1",
        "after_effect/stop:1",
    ];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::blue_green()));
        world.deployed("v1");
        world.configure(&Yaml::blue_green().bake("10m"));
        let load = world.load();
        let deploy = world.deploying("v2");
        world.wait_for_step("bake");
        deploy.signal(rustix::process::Signal::KILL);
        assert_eq!(deploy.wait().signal, Some(9));
        world.run_killed(&["rollback", "--yes", "--reason", "it is slow"], instant);
        finished(&world, 3);
        let tally = load.stop();
        assert_eq!(tally.failures(), 0, "{tally:?}");
    });
}

#[test]
fn an_automatic_one() {
    // The deploy shifts traffic not at all: what is new says that it is unhealthy.
    let instants = [
        "before_hand_over:1",
        "after_hand_over:1",
        "after_intent/snapshot:1",
        "after_effect/shift_traffic:1",
        "after_intent/verify:1",
        "after_intent/stop:1",
        "before_end:1",
    ];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::default()));
        world.deployed("v1");
        world.build(Service { flags: "--health-unhealthy", ..Service::default() });
        let load = world.load();
        world.run_killed(&["deploy", "--version", "v2", "--yes"], instant);
        finished(&world, 3);
        let tally = load.stop();
        assert_eq!((tally.failures(), tally.served.get("v2")), (0, None), "{tally:?}");
        assert_eq!(world.row(2)["rejected"], true);
        assert_eq!(world.row(3)["trigger"], "health_check_failed");
    });
}

#[test]
fn one_by_recreate() {
    let instants = [
        "after_intent/stop:1",
        "after_effect/stop:1",
        "after_effect/start:1",
        "after_effect/shift_traffic:1",
    ];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::recreate()));
        world.deployed("v1");
        world.deployed("v2");
        world.run_killed(&["rollback", "--force", "--yes"], instant);
        finished(&world, 3);
    });
}

#[test]
fn a_second_rollback_takes_a_dead_one_over() {
    let world = World::new(&quick(Yaml::blue_green()));
    for version in ["v1", "v2", "v3"] {
        world.deployed(version);
    }
    world.run_killed(&["rollback", "--force", "--yes"], "after_effect/start:1");
    // Bare, it goes where the dead one went; somewhere else, it goes there.
    world.rollback(&["--version", "v1", "--reason", "all the way"]).expect(0);
    assert_eq!(ended_well(&world, &["v1"]), "v1");
    assert_eq!(world.row(3)["status"], "rolled_back");
}
