//! Rollbacks by hand: where they go, and what they refuse.

use serde_json::json;

use super::world_with;
use crate::support::{Service, Yaml};

#[test]
fn a_second_rollback_never_returns_to_the_rejected_one() {
    let world = world_with(&Yaml::blue_green(), &["v1", "v2", "v3"]);
    world.rollback(&["--force"]).expect(0);
    world.expect_serving("v2");
    world.rollback(&["--force"]).expect(0);
    world.expect_serving("v1");
    let ran = world.rollback(&["--force"]).expect(4).says("nothing to go back to");
    assert!(ran.stderr.contains("--override target_status"), "{}", ran.stderr);
    world.expect_serving("v1");
    assert_eq!(
        world.story(),
        [
            "#5 rollback v1 stable",
            "#4 rollback v2 rolled_back rejected",
            "#3 deploy v3 rolled_back rejected",
            "#2 deploy v2 stable",
            "#1 deploy v1 stable",
        ]
    );
    // Knowingly, it goes there all the same.
    world.rollback(&["--version", "v3", "--force"]).expect(4);
    world.rollback(&["--version", "v3", "--force", "--override", "target_status"]).expect(0);
    world.expect_serving("v3");
    assert_eq!(world.row(6)["rejected"], false);
}

#[test]
fn an_unknown_version_lists_what_exists() {
    let world = world_with(&Yaml::blue_green(), &["v1", "v2"]);
    for args in [["--version", "v9"], ["--to-revision", "9"], ["--to", "2020-01-01"]] {
        let ran = world.rollback(&[args[0], args[1], "--force"]).expect(4);
        assert!(ran.stderr.contains("#1 v1") && ran.stderr.contains("#2 v2"), "{}", ran.stderr);
    }
    world.expect_serving("v2");
    assert_eq!(world.history().len(), 2);
}

#[test]
fn a_healthy_release_is_rolled_back_only_by_force() {
    let world = world_with(&Yaml::blue_green(), &["v1", "v2"]);
    world.rollback(&[]).expect(4).says("--force");
    world.run(&["rollback", "--force"]).expect(4).says("--yes");
    world.expect_serving("v2");
    let document = world.rollback(&["--force", "--reason", "checkout fails"]).expect(0).json();
    assert_eq!(document["forced"], true);
    assert_eq!(document["reason"], "checkout fails");
    assert_eq!(document["trigger"], "manual");
    assert_eq!(document["status"], "completed");
    world.expect_serving("v1");
    let row = world.row(3);
    assert_eq!((&row["forced"], &row["kind"]), (&json!(true), &json!("rollback")));
}

#[test]
fn each_way_to_name_where_to() {
    let world = world_with(&Yaml::blue_green(), &["v1", "v2", "v3"]);
    let row = world.row(1);
    let document = world.rollback(&["--version", "v1", "--force"]).expect(0).json();
    assert_eq!(document["rollback_type"], "specific");
    world.expect_serving("v1");
    // v3 was left and is rejected now; v2 is still good.
    world.rollback(&["--to-revision", "2", "--force"]).expect(0);
    world.expect_serving("v2");
    world.rollback(&["--to", "1", "--force", "--override", "target_status"]).expect(0);
    world.expect_serving("v1");
    world.rollback(&["--to-version", "2", "--force", "--override", "target_status"]).expect(0);
    world.expect_serving("v2");
    let at = row["completed_at"].as_str().unwrap().to_owned();
    world.rollback(&["--to", &at, "--force", "--override", "target_status"]).expect(0);
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    world.rollback(&["shop", "--to", "#9"]).expect(4);
    world.rollback(&["shop", "--to", "in a while"]).expect(2);
    world.rollback(&["other"]).expect(2);
}

#[test]
fn a_time_means_what_was_live_then() {
    let world = world_with(&Yaml::blue_green(), &["v1"]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let began = jiff::Timestamp::now();
    world.deployed("v2");
    world.rollback(&["--to", "1ms ago", "--force"]).expect(4).says("is what is live now");
    world.expect_serving("v2");
    let since_ms = jiff::Timestamp::now().as_millisecond() - began.as_millisecond();
    world.rollback(&["--to", &format!("{}ms ago", since_ms + 500), "--force"]).expect(0);
    world.expect_serving("v1");
}

#[test]
fn a_rollback_starts_the_old_bytes() {
    let world = world_with(&Yaml::recreate(), &[]);
    let build = |version| world.build(Service { claims: Some(version), ..Service::default() });
    build("v1");
    world.deployed("v1");
    build("v2");
    world.deployed("v2");
    world.expect_serving("v2");
    world.rollback(&["--force"]).expect(0);
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    assert!(world.read("app").contains("\"v2\""), "the build on disk is left alone");
}

#[test]
fn a_warm_side_that_hangs_is_started_again() {
    let world = world_with(&Yaml::blue_green(), &["v1"]);
    world.configure(&Yaml::blue_green().bake("10m"));
    let deploy = world.deploying("v2");
    world.wait_for_step("bake");
    let hung = world.program_of("v1");
    hung.signal(rustix::process::Signal::STOP);
    world.rollback(&["--reason", "it is slow"]).expect(0);
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    assert_ne!(world.program_of("v1").pid, hung.pid);
    deploy.wait().expect(10);
    assert_eq!(world.row(2)["status"], "rolled_back");
}
