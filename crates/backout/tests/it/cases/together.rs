//! Two commands at once, and requests to the one that holds the operation.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{FAILS, UNHEALTHY, world_with};
use crate::support::{Service, World, Yaml, wait_until};

/// A build that takes some seconds to start once the file `slow` exists.
const SLOW_START: Service<'static> =
    Service { flags: "", claims: None, before: "[ -e slow ] && sleep 6" };

#[test]
fn a_rollback_takes_a_running_deploy_over() {
    let world = world_with(&Yaml::long_hold(), &["v1"]);
    let load = world.load();
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    let document = world.rollback(&["--reason", "not that one"]).expect(0).json();
    let ran = deploy.wait().expect(10);
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "{tally:?}");
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    assert_eq!(document["target_version"], "v1");
    assert_eq!(ran.json()["exit_code"], 10);
    // No verdict said that it is bad.
    assert_eq!(
        world.story(),
        ["#3 rollback v1 stable", "#2 deploy v2 rolled_back", "#1 deploy v1 stable"]
    );
}

#[test]
fn a_rollback_takes_an_automatic_one_over() {
    let world = World::new(&Yaml::recreate());
    world.build(SLOW_START);
    world.deployed("v1");
    world.write("slow", "");
    world.build(UNHEALTHY);
    let deploy = world.deploying("v2");
    wait_until("the automatic rollback", || world.status()["operation"]["kind"] == "rollback");
    let document = world.rollback(&[]).expect(0).json();
    assert_eq!(document["target_version"], "v1");
    deploy.wait().expect(10);
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    let row = world.row(2);
    assert_eq!(
        (row["status"].as_str(), row["rejected"].as_bool()),
        (Some("rolled_back"), Some(true))
    );
}

#[test]
fn two_persons_do_not_roll_back_at_once() {
    let world = World::new(&Yaml::blue_green());
    world.build(SLOW_START);
    world.deployed("v1");
    world.build(Service::default());
    world.deployed("v2");
    world.write("slow", "");
    let first = world.spawn(&["rollback", "--force", "--yes", "--format", "json"]);
    wait_until("the first rollback", || world.status()["operation"]["kind"] == "rollback");
    world.rollback(&["--force"]).expect(5).says("busy");
    first.wait().expect(0);
    world.expect_serving("v1");
    assert_eq!(world.history().len(), 3);
}

#[test]
fn a_deploy_supersedes_one_that_bakes_and_goes_back_to_it() {
    let world = world_with(&Yaml::default(), &["v1"]);
    world.configure(&Yaml::default().bake("10m"));
    let load = world.load();
    let first = world.deploying("v2");
    world.wait_for_step("bake");
    world.build(FAILS);
    let document = world.deploy("v3").expect(10).json();
    drop(load);
    first.wait().expect(3);
    assert_eq!(document["rollback"]["target_version"], "v2");
    world.expect_serving("v2");
    assert_eq!(world.running(), ["v2"]);
    assert_eq!(world.row(2)["status"], "superseded");
    assert_eq!(world.row(2)["rejected"], false);
    assert_eq!(world.row(3)["status"], "rolled_back");
    let row = world.row(4);
    assert_eq!((row["version"].as_str(), row["status"].as_str()), (Some("v2"), Some("baking")));
}

#[test]
fn a_deploy_does_not_disturb_one_in_its_stages() {
    let world = world_with(&Yaml::long_hold(), &["v1"]);
    let first = world.deploying("v2");
    world.wait_for_step("hold_50");
    let ran = world.deploy("v3").expect(5).says("deploy");
    let pid = first.pid().to_string();
    assert!(ran.stderr.contains(&pid), "the holder {pid} is named: {}", ran.stderr);
    assert_eq!(world.history().len(), 2);
    world.run(&["abort", "--yes"]).expect(0);
    first.wait().expect(10);
}

/// Nobody holds the deploy any more: `abort` takes it back itself, and that is what was asked for.
#[test]
fn an_abort_of_a_deploy_that_was_left_does_it_and_ends_with_0() {
    let world = world_with(&Yaml::long_hold(), &["v1"]);
    let first = world.deploying("v2");
    world.wait_for_step("hold_50");
    first.signal(Signal::KILL);
    first.wait();
    let document = world.run(&["abort", "--yes", "--format", "json"]).expect(0).json();
    assert_eq!(document["exit_code"], 0, "{document:#}");
    assert_eq!(
        (&world.row(2)["status"], &world.row(2)["rejected"]),
        (&"rolled_back".into(), &false.into())
    );
    world.expect_serving("v1");
    // A first one is removed again.
    let world = world_with(&Yaml::blue_green().bake("10m"), &[]);
    world.build(Service { flags: "--health-unhealthy", ..Service::default() });
    world.run_killed(&["deploy", "--version", "v1", "--yes"], "after_intent/await_ready:1");
    world.run(&["abort", "--yes"]).expect(0);
    assert_eq!(world.status()["version"], Value::Null);
}

#[test]
fn promote_ends_a_hold() {
    let yaml = Yaml {
        strategy: "{ canary: { stages: [30, 60], hold: 10m, hold_max: 20m } }".to_owned(),
        ..Yaml::default()
    };
    let world = world_with(&yaml, &["v1"]);
    world.run(&["promote"]).expect(4);
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_30");
    world.run(&["promote"]).expect(0);
    world.wait_for_step("hold_60");
    world.run(&["promote"]).expect(0);
    deploy.wait().expect(0);
    world.expect_serving("v2");
}

#[test]
fn promote_full_skips_the_other_stages() {
    let yaml = Yaml {
        strategy: "{ canary: { stages: [30, 60], hold: 10m, hold_max: 20m } }".to_owned(),
        ..Yaml::default()
    };
    let world = world_with(&yaml, &["v1"]);
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_30");
    world.run(&["promote", "--full", "--format", "json"]).expect(0);
    let document = deploy.wait().expect(0).json();
    let skipped = |name: &str| {
        let steps = document["steps"].as_array().unwrap();
        steps.iter().any(|step| step["name"] == name && step["status"] == "skipped")
    };
    assert!(skipped("hold_60"), "{document:#}");
    world.expect_serving("v2");
}

#[test]
fn pause_stops_the_hold_clock() {
    let yaml = Yaml {
        strategy: "{ canary: { stages: [50], hold: 3s, hold_max: 20m } }".to_owned(),
        ..Yaml::default()
    };
    let world = world_with(&yaml, &["v1"]);
    world.run(&["pause"]).expect(4);
    let mut deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    world.run(&["pause"]).expect(0);
    world.run(&["resume"]).expect(0);
    world.run(&["resume"]).expect(4);
    world.run(&["pause"]).expect(0);
    std::thread::sleep(Duration::from_secs(4));
    assert!(deploy.runs());
    assert_eq!(world.status()["operation"]["step"], "hold_50");
    world.run(&["resume"]).expect(0);
    deploy.wait().expect(0);
    world.expect_serving("v2");
}

#[test]
fn the_judge_goes_on_watching_while_paused() {
    let world = world_with(&Yaml::long_hold().impatient(), &["v1"]);
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    world.run(&["pause"]).expect(0);
    world.program_of("v2").signal(rustix::process::Signal::STOP);
    deploy.wait().expect(10);
    world.expect_serving("v1");
}

#[test]
fn abort_takes_it_back() {
    let world = world_with(&Yaml::long_hold(), &["v1"]);
    world.run(&["abort", "--yes"]).expect(4);
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    world.run(&["abort", "--yes"]).expect(0);
    deploy.wait().expect(10);
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    assert_eq!(
        world.story(),
        ["#3 rollback v1 stable", "#2 deploy v2 rolled_back", "#1 deploy v1 stable"]
    );
}

#[test]
fn down_takes_a_running_deploy_over() {
    let world = world_with(&Yaml::long_hold(), &["v1"]);
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    world.run(&["down", "--yes"]).expect(0);
    deploy.wait().expect(10);
    world.expect_nothing_running();
    assert_eq!(world.status()["operation"], serde_json::Value::Null);
}
