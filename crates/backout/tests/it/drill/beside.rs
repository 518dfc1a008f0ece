//! A release is started beside what runs, passes its checks or not, and goes.

use super::{drill, startable};
use crate::support::{Service, World, Yaml, wait_for};

fn two(yaml: &Yaml) -> World {
    let world = World::new(yaml);
    world.deployed("v1");
    world.deployed("v2");
    world
}

#[test]
fn the_way_back_is_measured_and_nobody_notices() {
    let world = two(&Yaml::blue_green().bake("0s"));
    let (check, _) = startable(&world);
    assert_eq!(check["status"], "warning", "never rehearsed: {check}");
    let load = world.load();
    let shown = drill(&world, &[]).expect(0).json();
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "{tally:?}");
    assert!(tally.served.keys().all(|version| version == "v2"), "only v2 had users: {tally:?}");
    assert_eq!((&shown["passed"], &shown["version"]), (&true.into(), &"v1".into()), "{shown:#}");
    assert_eq!((&shown["started_beside"], &shown["deployment"]), (&true.into(), &1.into()));
    let measured = shown["restore_ms"].as_u64().unwrap();
    assert!(measured > 0);
    assert!(shown["left_out"].to_string().contains("no traffic was moved"), "{shown:#}");

    // Nothing of it is left, and it made no deployment.
    assert_eq!(world.running(), ["v2"]);
    assert_eq!(world.supervisors().len(), 1);
    assert_eq!(world.story(), ["#2 deploy v2 stable", "#1 deploy v1 stable"]);
    let status = world.status();
    assert_eq!(
        (&status["operation"], &status["version"]),
        (&serde_json::Value::Null, &"v2".into())
    );

    // Everybody who asks is told.
    let (check, readiness) = startable(&world);
    assert_eq!(check["status"], "pass", "{check}");
    assert!(check["message"].as_str().unwrap().contains(&format!("{measured} ms")), "{check}");
    assert_eq!(readiness["expected_ms"], measured);
    assert_eq!(readiness["drill"]["passed"], true, "{readiness:#}");
    assert_eq!(readiness["drill"]["restore_ms"], measured);
    let row = world.row(1);
    assert_eq!(row["drill"]["restore_ms"], measured, "{row:#}");
    let inspected = world.run(&["inspect", "#1", "--format", "json"]).expect(0).json();
    assert_eq!(inspected["deployment"]["drill"]["restore_ms"], measured, "{inspected:#}");

    // And the real one goes as rehearsed.
    world.rollback(&["--force"]).expect(0);
    world.expect_serving("v1");
    let back = world.row(3);
    assert!(back["restore_ms"].as_u64().is_some(), "{back:#}");
}

#[test]
fn one_that_would_fail_says_why_and_is_not_left_running() {
    let world = World::new(&Yaml::blue_green().bake("0s"));
    world.write("ready", "yes");
    let before = format!(
        "test -e {}/ready || {{ echo no licence file >&2; exit 3; }}",
        world.folder().display()
    );
    world.build(Service { before: &before, ..Service::default() });
    world.deployed("v1");
    world.build(Service::default());
    world.deployed("v2");
    drill(&world, &[]).expect(0);
    std::fs::remove_file(world.folder().join("ready")).unwrap();
    let ran = drill(&world, &[]).expect(1);
    let shown = ran.json();
    assert_eq!(shown["passed"], false);
    let why = shown["error_message"].as_str().unwrap();
    assert!(why.contains("no licence file"), "{why}");
    world.expect_serving("v2");
    assert_eq!(world.running(), ["v2"]);
    assert_eq!(world.supervisors().len(), 1);
    let (check, readiness) = startable(&world);
    assert_eq!(
        (&check["status"], &readiness["ready"]),
        (&"error".into(), &false.into()),
        "{check}"
    );
    assert!(check["message"].as_str().unwrap().contains("no licence file"), "{check}");
    // An older drill is no reason to refuse a way back: the present decides.
    world.write("ready", "yes");
    world.rollback(&["--force"]).expect(0);
    world.expect_serving("v1");
}

#[test]
fn a_missing_copy_is_seen_without_a_start() {
    let world = two(&Yaml::blue_green().bake("0s"));
    let release = world.run(&["inspect", "#1", "--format", "json"]).expect(0).json();
    let digest = release["release"]["artifacts"][0]["digest"].as_str().unwrap().to_owned();
    let copy = world.state_dir().join("artifacts").join(digest.trim_start_matches("sha256:"));
    std::fs::remove_dir_all(&copy).unwrap();
    let shown = drill(&world, &[]).expect(1).json();
    assert!(shown["error_message"].as_str().unwrap().contains("artifact_available"), "{shown:#}");
    assert_eq!(shown["started_beside"], false);
    world.expect_serving("v2");
}

#[test]
fn workers_are_not_started_twice() {
    let yaml = Yaml::blue_green().bake("0s").extra(
        "services:\n  shop: {}\n  jobs: { traffic: none, command: [\"/bin/sh\", \"-c\", \"echo begun >> begun; exec sleep 600\"], artifact: app, health: { exec: { command: [\"true\"] } } }",
    );
    let world = two(&yaml);
    let begun = world.read("begun").lines().count();
    let shown = drill(&world, &[]).expect(0).json();
    assert_eq!(world.read("begun").lines().count(), begun, "no worker was started");
    assert!(shown["left_out"].to_string().contains("jobs takes no traffic"), "{shown:#}");
}

#[test]
fn it_is_refused_where_there_is_nothing_to_rehearse_and_busy_while_others_work() {
    let world = World::new(&Yaml::blue_green().bake("1h"));
    drill(&world, &[]).expect(4);
    let deploying = world.deploying("v1");
    world.wait_for_step("bake");
    drill(&world, &[]).expect(5);
    deploying.signal(rustix::process::Signal::TERM);
    deploying.wait().expect(3);
    // Nobody watches it, and it is open all the same.
    drill(&world, &[]).expect(4).says("backout recover");
    let none = World::new(&Yaml::blue_green().bake("0s"));
    none.deployed("v1");
    drill(&none, &[]).expect(4).says("nothing to go back to");
    drill(&none, &["--to-revision", "1"]).expect(4).says("live now");
}

#[test]
fn a_persons_rollback_takes_a_drill_over() {
    let world = World::new(&Yaml::blue_green().bake("0s"));
    world.build(Service { before: "test ! -e slow || sleep 30", ..Service::default() });
    world.deployed("v1");
    world.build(Service::default());
    world.deployed("v2");
    world.write("slow", "");
    let drilling = world.spawn(&["drill", "--yes", "--format", "json"]);
    wait_for("the rehearsal", || (world.status()["operation"]["step"] == "rehearse").then_some(()));
    world.deploy("v3").expect(5);
    std::fs::remove_file(world.folder().join("slow")).unwrap();
    world.rollback(&["--force"]).expect(0);
    let code = drilling.wait().code;
    assert!(matches!(code, Some(3)), "{code:?}");
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    let story = world.story();
    assert!(story.contains(&"#2 deploy v2 rolled_back rejected".to_owned()), "{story:?}");
}
