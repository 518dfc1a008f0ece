//! The first deployment ever, and what comes after everything was stopped.

use super::{UNHEALTHY, world_with};
use crate::support::{Service, World, Yaml};

#[test]
fn a_first_deployment_that_fails_leaves_nothing() {
    let world = World::new(&Yaml::default());
    world.build(UNHEALTHY);
    let ran = world.deploy("v1").expect(1);
    assert_eq!(ran.json()["deployment"]["status"], "failed");
    assert_eq!(world.story(), ["#1 deploy v1 failed rejected"]);
    let status = world.status();
    assert_eq!(status["deployment"], serde_json::Value::Null);
    assert_eq!(status["operation"], serde_json::Value::Null);
    world.expect_nothing_running();
    assert!(world.get("/").is_err());
    // What was mended goes out as if nothing had been before.
    world.build(Service::default());
    world.deployed("v1");
    world.expect_serving("v1");
}

#[test]
fn what_was_adopted_is_the_way_back_of_the_first_deployment() {
    let world = World::new(&Yaml::default());
    world.run(&["adopt", "--version", "v0", "--yes"]).expect(0);
    assert!(world.running().is_empty(), "adopting starts nothing");
    assert_eq!(world.story(), ["#0 adopt v0 stable"]);
    world.build(UNHEALTHY);
    world.deploy("v1").expect(10);
    world.expect_serving("v0");
    assert_eq!(world.running(), ["v0"]);
    assert_eq!(
        world.story(),
        ["#2 rollback v0 stable", "#1 deploy v1 rolled_back rejected", "#0 adopt v0 stable"]
    );
}

#[test]
fn a_program_that_exits_at_once_is_a_start_up_failure() {
    let world = World::new(&Yaml::default());
    world.build(Service { before: "echo no configuration >&2; exit 7", ..Service::default() });
    let ran = world.deploy("v1").expect(1);
    assert_eq!(world.row(1)["status"], "failed");
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains('7') || said.contains("exit"), "{said}");
    world.expect_nothing_running();
}

#[test]
fn after_down_a_deploy_or_recover_brings_it_back() {
    let world = world_with(&Yaml::blue_green(), &["v1"]);
    world.run(&["down", "--yes"]).expect(0);
    world.expect_nothing_running();
    world.run(&["down", "--yes"]).expect(0);
    world.run(&["recover", "--yes"]).expect(0);
    world.expect_serving("v1");
    world.run(&["down", "--yes"]).expect(0);
    world.deployed("v2");
    world.expect_serving("v2");
    assert_eq!(world.running(), ["v2"]);
    // Stopping is no verdict: the version before it is still good.
    world.rollback(&["--force"]).expect(0);
    world.expect_serving("v1");
}

#[test]
fn a_missing_secret_is_named_before_anything_stops() {
    let mut yaml = Yaml::recreate().extra("secrets: [API_KEY]");
    yaml.process.push_str(r#", env: { API_KEY: "${API_KEY}" }"#);
    let world = World::new(&yaml);
    let deploy = |version| ["deploy", "--version", version, "--yes"];
    world.run_with(&deploy("v1"), &[("API_KEY", "one")]).expect(0);
    world.run_with(&deploy("v2"), &[("API_KEY", "two")]).expect(0);
    let ran = world.run(&deploy("v3"));
    assert!(matches!(ran.code, Some(2 | 4)), "{ran:?}");
    assert!(ran.says("API_KEY").stdout.is_empty());
    let ran = world.run(&["rollback", "--force", "--yes"]);
    assert!(matches!(ran.code, Some(2 | 4)), "{ran:?}");
    let ran = ran.says("API_KEY");
    assert!(!ran.stderr.contains("two") && !ran.stdout.contains("two"), "{ran:?}");
    world.expect_serving("v2");
    assert_eq!(world.row(2)["status"], "stable");
    let env = [("API_KEY", "three")];
    world.run_with(&["rollback", "--force", "--yes"], &env).expect(0);
    world.expect_serving("v1");
    // The old release runs with today's value.
    let pid = world.program_of("v1").pid;
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("API_KEY=three\0"));
}
