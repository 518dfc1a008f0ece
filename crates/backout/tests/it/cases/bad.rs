//! Bad versions of every kind are caught and taken back.

use serde_json::json;

use super::{FAILS, UNHEALTHY, world_with};
use crate::support::{Service, World, Yaml};

/// What must hold after v2 was taken back to v1.
#[track_caller]
fn taken_back(world: &World) {
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    assert_eq!(
        world.story(),
        ["#3 rollback v1 stable", "#2 deploy v2 rolled_back rejected", "#1 deploy v1 stable"]
    );
    let status = world.status();
    assert_eq!(status["deployment"], 3);
    assert_eq!(status["version"], "v1");
    assert_eq!(status["operation"], json!(null));
}

#[test]
fn one_that_fails_requests() {
    let world = world_with(&Yaml::default(), &["v1"]);
    world.build(FAILS);
    let load = world.load();
    let document = world.deploy("v2").expect(10).json();
    let tally = load.stop();
    taken_back(&world);
    assert!(tally.served["v1"] > 0, "{tally:?}");
    assert!(tally.failed.keys().all(|words| words == "500 v2 failed"), "{tally:?}");
    let trigger = world.row(3)["trigger"].clone();
    assert!(trigger == "analysis" || trigger == "threshold", "{trigger}");
    assert_eq!(world.row(3)["rollback_type"], "automatic");
    // The document of a failed deploy holds that of its rollback.
    assert_eq!(document["exit_code"], 10);
    assert_eq!(document["deployment"]["status"], "rolled_back");
    assert_eq!(document["deployment"]["rejected"], true);
    let back = &document["rollback"];
    for (key, value) in [
        ("status", json!("completed")),
        ("deployment_from", json!(2)),
        ("deployment_to", json!(3)),
        ("from_version", json!("v2")),
        ("target_version", json!("v1")),
        ("rollback_type", json!("automatic")),
        ("trigger", trigger),
        ("forced", json!(false)),
        ("overrides", json!([])),
        ("data_preserved", json!(true)),
        ("health", json!({ "shop": "healthy" })),
        ("notification_sent", json!(false)),
        ("previous_state_version", json!(2)),
        ("error_message", json!(null)),
    ] {
        assert_eq!(back[key], value, "{key} of {back:#}");
    }
    // The proxy may be faster than the watch, and says so then.
    let by_trip = back["evidence"].to_string().contains("the proxy's trip fired");
    assert_eq!(back["surface"], if by_trip { "proxy" } else { "cli" }, "{back:#}");
    let steps = back["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["name"] == "shift_traffic" && step["status"] == "done"));
    assert!(back["evidence"][0].as_str().is_some_and(|words| !words.is_empty()), "{back:#}");
    assert!(back["duration_ms"].is_u64() && back["id"].as_str().unwrap().starts_with("rb_"));
}

#[test]
fn one_that_says_unhealthy() {
    let world = world_with(&Yaml::default(), &["v1"]);
    world.build(UNHEALTHY);
    let load = world.load();
    world.deploy("v2").expect(10);
    let tally = load.stop();
    taken_back(&world);
    assert_eq!(world.row(3)["trigger"], "health_check_failed");
    assert_eq!((tally.failures(), tally.served.get("v2")), (0, None), "no user ever met it");
}

#[test]
fn one_that_crashes_again_and_again() {
    let world = world_with(&Yaml::default(), &["v1"]);
    world.build(Service { flags: "--exit-after-ms 900", ..Service::default() });
    let load = world.load();
    world.deploy("v2").expect(10);
    drop(load);
    taken_back(&world);
}

#[test]
fn one_that_is_another_version_than_it_should_be() {
    let world = world_with(&Yaml::default(), &["v1"]);
    world.build(Service { claims: Some("v1-rc"), ..Service::default() });
    world.deploy("v2").expect(10);
    taken_back(&world);
    assert_eq!(world.row(3)["trigger"], "version_mismatch");
}

#[test]
fn one_that_never_gets_ready() {
    let yaml = Yaml { health: "  startup_failures: 3\n".to_owned(), ..Yaml::default() };
    let world = world_with(&yaml, &["v1"]);
    world.configure(&Yaml {
        health: "  startup_failures: 3\n".to_owned(),
        ..Yaml::default().extra("deploy: { timeout: 30m }")
    });
    world.build(Service { before: "exit 3", ..Service::default() });
    world.deploy("v2").expect(10);
    taken_back(&world);
    assert_eq!(world.row(3)["trigger"], "startup_failure");
}

#[test]
fn one_that_goes_bad_during_its_bake() {
    let world = world_with(&Yaml::blue_green().bake("10m"), &[]);
    world.configure(&Yaml::blue_green());
    world.deployed("v1");
    world.configure(&Yaml::blue_green().bake("10m").impatient());
    let load = world.load();
    let deploy = world.deploying("v2");
    world.wait_for_step("bake");
    world.expect_serving("v2");
    // It hangs, as programs do.
    world.program_of("v2").signal(rustix::process::Signal::STOP);
    deploy.wait().expect(10);
    drop(load);
    taken_back(&world);
}

#[test]
fn one_is_left_live_where_automatic_rollback_is_off() {
    let off = |yaml: Yaml| yaml.extra("rollback: { automatic: false }");
    let world = world_with(&off(Yaml::default()), &["v1"]);
    world.build(FAILS);
    let load = world.load();
    let ran = world.deploy("v2").expect(13);
    drop(load);
    assert_eq!(world.row(2)["status"], "failed");
    assert_eq!(ran.json()["exit_code"], 13);
    let ran = world.rollback(&["--reason", "it fails"]).expect(0);
    assert_eq!(ran.json()["reason"], "it fails");
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    assert_eq!(world.row(2)["rejected"], true);
}

#[test]
fn a_rejected_version_that_was_mended_is_deployed_again() {
    let world = world_with(&Yaml::blue_green(), &["v1"]);
    world.build(UNHEALTHY);
    world.deploy("v2").expect(10);
    // Unchanged it is still possible, with a warning; it fails again.
    let ran = world.deploy("v2").expect(10);
    assert!(ran.stderr.contains("rolled back before"), "{}", ran.stderr);
    world.build(Service::default());
    let ran = world.deploy("v2").expect(0);
    assert!(!ran.stderr.contains("rolled back before"), "{}", ran.stderr);
    world.expect_serving("v2");
    let row = world.row(6);
    assert_eq!((&row["version"], &row["rejected"]), (&json!("v2"), &json!(false)));
    // And it is a place to go back to.
    world.deployed("v3");
    world.rollback(&["--force"]).expect(0);
    world.expect_serving("v2");
}

#[test]
fn a_way_back_to_what_is_unhealthy_too_is_told_apart() {
    let port = crate::support::free_port();
    let mut yaml = Yaml::recreate().extra("rollback: { deadline: 1s }");
    yaml.process = format!("artifact: app, port: {port}");
    yaml.router = String::new();
    let mut world = World::new(&yaml);
    world.listen = port;
    let program = world.program();
    let broken = format!(
        "[ -e broken ] && exec {} demo-service --version \"$1\" --health-unhealthy",
        program.display()
    );
    world.build(Service { before: &broken, ..Service::default() });
    world.deployed("v1");
    world.write("broken", "");
    world.build(UNHEALTHY);
    let document = world.deploy("v2").expect(11).json();
    assert_eq!(document["rollback"]["status"], "completed");
    assert_eq!(document["rollback"]["health"]["shop"], "failing");
    assert_eq!(
        world.story(),
        ["#3 rollback v1 failed", "#2 deploy v2 rolled_back rejected", "#1 deploy v1 stable"]
    );
    assert_eq!(world.running(), ["v1"]);
    // The next good one mends it.
    std::fs::remove_file(world.folder().join("broken")).unwrap();
    world.build(Service::default());
    world.deployed("v3");
    world.expect_serving("v3");
}
