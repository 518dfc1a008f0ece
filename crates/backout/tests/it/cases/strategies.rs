//! Each strategy through the built-in proxy, and workers beside it.

use super::{FAILS, UNHEALTHY, world_with};
use crate::support::{World, Yaml};

#[test]
fn a_canary_goes_through_its_stages_without_a_failed_request() {
    let world = world_with(&Yaml::default(), &["v1"]);
    let load = world.load();
    let ran = world.deploy("v2").expect(0);
    let tally = load.stop();
    world.expect_serving("v2");
    assert_eq!(tally.failures(), 0, "{tally:?}");
    assert!(tally.served["v1"] > 0 && tally.served["v2"] > 0, "{tally:?}");
    assert_eq!(world.story(), ["#2 deploy v2 stable", "#1 deploy v1 stable"]);
    assert_eq!(world.running(), ["v2"]);
    let document = ran.json();
    for (key, value) in [("kind", "deploy"), ("app", "shop"), ("environment", "production")] {
        assert_eq!(document[key], value);
    }
    assert_eq!(document["exit_code"], 0);
    assert_eq!(document["deployment"]["number"], 2);
    assert_eq!(document["deployment"]["status"], "stable");
    assert_eq!(document["rollback"], serde_json::Value::Null);
    let names: Vec<&str> = document["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["name"].as_str())
        .collect();
    let wanted = ["start", "await_ready", "hold_20", "hold_60", "bake", "drain", "stop"];
    let mut rest = names.iter();
    assert!(wanted.iter().all(|name| rest.any(|other| other == name)), "{names:?}");
}

#[test]
fn blue_green_moves_all_traffic_at_once_without_a_failed_request() {
    let world = world_with(&Yaml::blue_green(), &["v1"]);
    let load = world.load();
    world.deployed("v2");
    world.rollback(&["--force"]).expect(0);
    let tally = load.stop();
    world.expect_serving("v1");
    assert_eq!(tally.failures(), 0, "{tally:?}");
    assert_eq!(world.running(), ["v1"]);
}

#[test]
fn the_old_side_stays_warm_through_the_bake() {
    let world = world_with(&Yaml::blue_green(), &["v1"]);
    world.configure(&Yaml::blue_green().bake("10m"));
    let old = world.program_of("v1").pid;
    let load = world.load();
    let deploy = world.deploying("v2");
    world.wait_for_step("bake");
    assert_eq!(world.running(), ["v1", "v2"]);
    let readiness = world.status()["rollback_readiness"].clone();
    assert_eq!((&readiness["deployment"], &readiness["ready"]), (&1.into(), &true.into()));
    let document = world.rollback(&["--reason", "checkout fails"]).expect(0).json();
    deploy.wait().expect(10);
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "{tally:?}");
    assert_eq!(document["rollback_type"], "blue_green_switch");
    assert_eq!(world.program_of("v1").pid, old, "the same process, never stopped");
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
}

#[test]
fn recreate_stops_the_old_one_first() {
    let world = world_with(&Yaml::recreate(), &["v1", "v2"]);
    assert_eq!(world.running(), ["v2"]);
    world.expect_serving("v2");
    world.build(UNHEALTHY);
    world.deploy("v3").expect(10);
    world.expect_serving("v2");
    assert_eq!(world.running(), ["v2"]);
    assert_eq!(world.row(4)["version"], "v2");
}

#[test]
fn recreate_needs_no_router() {
    let port = crate::support::free_port();
    let yaml = Yaml {
        process: format!("artifact: app, port: {port}"),
        router: String::new(),
        ..Yaml::recreate()
    };
    let mut world = World::new(&yaml);
    world.listen = port;
    world.deployed("v1");
    world.deployed("v2");
    world.expect_serving("v2");
    assert!(world.proxies().is_empty());
    world.build(UNHEALTHY);
    world.deploy("v3").expect(10);
    world.expect_serving("v2");
    world.rollback(&["--force"]).expect(0);
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
}

#[test]
fn another_strategy_for_one_deploy() {
    let world = world_with(&Yaml::default(), &["v1"]);
    let names = |args: &[&str]| -> Vec<String> {
        let all = [&["deploy", "--version", "v2", "--format", "json"], args].concat();
        let document = world.run(&all).expect(0).json();
        let steps = document["steps"].as_array().unwrap();
        steps.iter().map(|step| step["name"].as_str().unwrap().to_owned()).collect()
    };
    let canary = names(&["--dry-run"]);
    assert!(canary.contains(&"hold_20".to_owned()), "{canary:?}");
    let blue_green = names(&["--strategy", "blue_green", "--yes"]);
    assert!(!blue_green.iter().any(|name| name.starts_with("hold")), "{blue_green:?}");
    world.expect_serving("v2");
}

fn with_worker(yaml: Yaml) -> Yaml {
    yaml.extra(
        r#"services:
  web: { depends_on: [worker] }
  worker:
    traffic: none
    artifact: worker
    command: ["{artifact}", "{version}"]"#,
    )
}

/// A worker that notes when two of it run.
fn write_worker(world: &World) {
    let notes = world.root().join("notes");
    std::fs::create_dir_all(&notes).unwrap();
    let notes = notes.display();
    world.script(
        "worker",
        &format!(
            "#!/bin/sh\nmkdir {notes}/lock || echo twice >> {notes}/twice\n\
             echo \"$1\" >> {notes}/began\n\
             trap 'rmdir {notes}/lock; exit 0' TERM\nwhile :; do sleep 0.05; done\n"
        ),
    );
}

#[track_caller]
fn worker_ran(world: &World, versions: &str) {
    let note = |name: &str| std::fs::read_to_string(world.root().join("notes").join(name));
    assert_eq!(note("began").unwrap().split_whitespace().collect::<Vec<_>>().join(" "), versions);
    assert!(note("twice").is_err(), "two workers ran at once");
}

#[test]
fn a_worker_never_runs_twice() {
    for yaml in [Yaml::blue_green(), Yaml::recreate()] {
        let world = World::new(&with_worker(yaml));
        write_worker(&world);
        world.deployed("v1");
        world.deployed("v2");
        world.expect_serving("v2");
        worker_ran(&world, "v1 v2");
        world.rollback(&["--force"]).expect(0);
        world.expect_serving("v1");
        worker_ran(&world, "v1 v2 v1");
        world.build(UNHEALTHY);
        world.deploy("v3").expect(10);
        worker_ran(&world, "v1 v2 v1 v3 v1");
        world.run(&["down", "--yes"]).expect(0);
        world.expect_nothing_running();
    }
}

#[test]
fn a_worker_goes_back_with_a_canary_that_fails() {
    let world = World::new(&with_worker(Yaml::default()));
    write_worker(&world);
    world.deployed("v1");
    world.build(FAILS);
    let load = world.load();
    world.deploy("v2").expect(10);
    drop(load);
    worker_ran(&world, "v1 v2 v1");
    world.expect_serving("v1");
}
