//! Commands and controllers that were killed: a controller goes on with what they left.

use rustix::process::Signal;
use serde_json::Value;

use crate::kills::{at_each, ended_well, quick};
use crate::support::{World, Yaml, wait_until};

const DEPLOY_V2: [&str; 4] = ["deploy", "--version", "v2", "--yes"];

/// What must hold once the controller has dealt with a deploy of v2 that was cut off.
#[track_caller]
fn dealt_with(world: &World) -> String {
    world.wait_for_rest();
    let version = ended_well(world, &["v1", "v2"]);
    let row = world.row(2);
    let wanted: &[&str] = if version == "v2" { &["stable"] } else { &["rolled_back", "failed"] };
    assert!(wanted.iter().any(|status| row["status"] == *status), "{row:#}");
    assert_eq!(row["rejected"], false, "no verdict fell: {row:#}");
    version
}

#[test]
fn it_goes_on_with_a_killed_deploy_wherever_it_was() {
    let instants = [
        "after_open:1",
        "after_intent/start:1",
        "after_effect/start:1",
        "after_intent/await_ready:1",
        "after_effect/shift_traffic:1",
        "after_intent/hold_60:1",
        "after_effect/shift_traffic:3",
        "after_intent/bake:1",
        "after_intent/drain:1",
        "before_end:1",
    ];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::default()));
        world.deployed("v1");
        let controller = world.controller();
        let load = world.load();
        world.run_killed(&DEPLOY_V2, instant);
        dealt_with(&world);
        let tally = load.stop();
        assert_eq!(tally.failures(), 0, "users were served all the time: {tally:?}");
        assert!(controller.says("is taken up"), "{}", controller.stderr());
        // Nobody has to delete a lock.
        world.deployed("v3");
        ended_well(&world, &["v3"]);
    });
}

#[test]
fn it_finishes_a_killed_rollback() {
    let instants = ["after_intent/shift_traffic:1", "after_effect/start:1", "before_end:1"];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::recreate()));
        world.deployed("v1");
        world.deployed("v2");
        let instant =
            if instant.contains("shift_traffic") { "after_intent/stop:1" } else { instant };
        let controller = world.controller();
        world.run_killed(&["rollback", "--yes", "--force"], instant);
        world.wait_for_rest();
        assert_eq!(ended_well(&world, &["v1"]), "v1");
        assert_eq!(world.row(3)["kind"], "rollback");
        assert!(controller.says("is taken up"), "{}", controller.stderr());
    });
}

#[test]
fn it_watches_a_bake_that_nobody_watches() {
    let world = World::new(&Yaml::blue_green().bake("4s"));
    world.deployed("v1");
    let deploy = world.deploying("v2");
    world.wait_for_step("bake");
    deploy.signal(Signal::TERM);
    deploy.wait().expect(3);
    let controller = world.controller();
    wait_until("the controller to watch", || controller.says("is taken up"));
    world.wait_for_status(2, &["stable"]);
    assert_eq!(world.wait_for_rest()["watched_by"], world.status()["controller"]);
    world.expect_serving("v2");
}

#[test]
fn a_bake_that_goes_bad_is_taken_back_by_the_controller() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    world.configure(&Yaml::blue_green().bake("10m").impatient());
    let deploy = world.deploying("v2");
    world.wait_for_step("bake");
    deploy.signal(Signal::KILL);
    deploy.wait();
    let controller = world.controller();
    wait_until("the controller to watch", || controller.says("the watch sees"));
    // It hangs from now on.
    world.program_of("v2").signal(Signal::STOP);
    let bad = world.wait_for_status(2, &["rolled_back"]);
    assert_eq!(bad["rejected"], true, "{bad:#}");
    world.wait_for_rest();
    world.expect_serving("v1");
    let back = world.row(3);
    assert_eq!(
        (&back["rollback_type"], &back["surface"]),
        (&"automatic".into(), &"controller".into())
    );
    assert!(controller.says("it goes back"), "{}", controller.stderr());
}

#[test]
fn another_controller_goes_on_with_what_a_killed_one_did() {
    let instants = [
        "after_claim:1",
        "after_open:1",
        "after_intent/pin_artifacts:1",
        "after_intent/start:1",
        "after_effect/start:1",
        "after_intent/await_ready:1",
        "after_effect/shift_traffic:1",
        "after_intent/hold_20:1",
        "after_effect/shift_traffic:3",
        "after_intent/bake:1",
        "after_effect/stop:1",
        "before_end:1",
    ];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::default()));
        world.deployed("v1");
        let doomed = world.controller_with(&[("BACKOUT_KILL_AT", instant)]);
        let order = world.spawn(&["deploy", "--version", "v2", "--yes", "--detach"]);
        let ran = doomed.wait();
        assert_eq!(ran.signal, Some(9), "it never came to {instant}: {}", ran.stderr);
        let _second = world.controller();
        let ran = order.wait();
        match ran.code {
            // Begun, or withdrawn since the controller was gone.
            Some(0) => _ = dealt_with(&world),
            Some(4) => assert_eq!(world.story(), ["#1 deploy v1 stable"], "{}", ran.stderr),
            _ => panic!("{ran:?}"),
        }
        assert_eq!(world.status()["operation"], Value::Null);
        world.ordered("v3").expect(0);
        world.wait_for_rest();
        ended_well(&world, &["v3"]);
    });
}

#[test]
fn after_a_reboot_it_starts_what_should_run_but_not_what_was_stopped() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    world.end_all();
    let controller = world.controller();
    wait_until("v1 to run again", || world.running() == ["v1"] && world.proxies().len() == 1);
    world.wait_for_rest();
    world.expect_serving("v1");
    wait_until("the word of it", || controller.says("was started again"));
    world.run(&["down", "--yes"]).expect(0);
    world.expect_nothing_but_the_controller();
    std::thread::sleep(std::time::Duration::from_secs(3));
    world.expect_nothing_but_the_controller();
    world.deployed("v2");
    world.expect_serving("v2");
}

#[test]
fn status_says_who_watches_and_stays_fresh() {
    let yaml = Yaml { check_timeout: "8s, interval: 1s".to_owned(), ..Yaml::blue_green() };
    let world = World::new(&yaml);
    world.deployed("v1");
    world.deployed("v2");
    let checked_at = |status: &Value| status["health_checked_at"].as_str().unwrap().to_owned();
    let before = checked_at(&world.status());
    let mut controller = world.controller();
    let label = world.status()["controller"].as_str().unwrap().to_owned();
    assert!(label.ends_with(&format!(":{}", controller.pid())), "{label}");
    for _ in 0..2 {
        let last = checked_at(&world.status());
        wait_until("a newer check", || checked_at(&world.status()) > last);
    }
    let status = world.status();
    assert!(checked_at(&status) > before);
    assert_eq!(
        (&status["health"], &status["watched_by"]),
        (&"healthy".into(), &label.clone().into())
    );
    assert_eq!(status["rollback_readiness"]["ready"], true);
    let shown = world.run(&["status"]).expect(0).stdout;
    assert!(shown.contains(&format!("watched by  controller {label}")), "{shown}");
    // What fails is said, once.
    world.supervisors()[0].signal(Signal::STOP);
    world.program_of("v2").signal(Signal::STOP);
    wait_until("the word of it", || controller.says("what is live is not healthy"));
    world.program_of("v2").signal(Signal::CONT);
    world.supervisors()[0].signal(Signal::CONT);
    wait_until("the end of it", || controller.says("what is live is healthy again"));
    assert_eq!(controller.lines("what is live is not healthy").len(), 1);
    assert!(controller.runs());
}
