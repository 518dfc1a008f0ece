//! What the router counts.

use std::time::Duration;

use super::{Users, ask, taken_back, until_judged};
use crate::support::{Service, World, Yaml, wait_until};

/// Fifty endpoints.
fn endpoints() -> Vec<String> {
    let letter = |index: u8| char::from(b'a' + index);
    (0..50).map(|n| format!("/{}{}/list", letter(n / 8), letter(n % 8))).collect()
}

fn failing_at(path: &str) -> String {
    format!("--fail-path {path}")
}

#[test]
fn one_bad_endpoint_of_fifty_is_found_where_another_got_better() {
    // A busy machine holds one side's process up now and then, and that is a slowdown of this side.
    let health = "  judge: { latency_warm_up: 1h, false_rollback_probability: 0.000001 }\n";
    let world = World::new(&Yaml { health: health.to_owned(), ..until_judged("") });
    let broken = failing_at("/ab/list");
    world.build(Service { flags: &broken, ..Service::default() });
    world.deployed("v1");
    // As many errors as before, at another endpoint: only by endpoint it is worse.
    let broken = failing_at("/ce/list");
    world.build(Service { flags: &broken, ..Service::default() });
    let users = Users::of(&world, endpoints(), Duration::ZERO);
    world.deploy("v2").expect(10);
    drop(users);
    let reason = taken_back(&world, 2);
    assert!(reason.contains("canary errors on GET /ce/list"), "{reason}");
    world.expect_serving("v1");
}

#[test]
fn better_errors_hide_no_worse_latency() {
    let world = World::new(&until_judged(""));
    world.build(Service { flags: "--fail-percent 3", ..Service::default() });
    world.deployed("v1");
    world.build(Service { flags: "--latency-ms 150", ..Service::default() });
    let users = Users::everywhere(&world);
    world.deploy("v2").expect(10);
    drop(users);
    let reason = taken_back(&world, 2);
    assert!(reason.contains("canary slower than the baseline's p"), "{reason}");
}

#[test]
fn a_fault_of_both_sides_holds_and_is_told_and_takes_nothing_back() {
    let world = World::new(&Yaml {
        strategy: "{ canary: { stages: [30], hold: 400ms, hold_max: 20m } }".to_owned(),
        ..until_judged("")
    });
    let flags = "--fail-percent 30";
    world.build(Service { flags, ..Service::default() });
    world.deployed("v1");
    world.build(Service { flags, before: ": another", ..Service::default() });
    let users = Users::everywhere(&world);
    let mut deploy = world.deploying("v2");
    wait_until("word of the shared fault", || deploy.stderr().contains("both versions suffer"));
    assert!(deploy.runs());
    assert_eq!(world.row(2)["status"], "in_progress");
    world.run(&["abort", "--yes"]).expect(0);
    deploy.wait().expect(10);
    drop(users);
    // Nothing was found against it.
    assert_eq!(world.row(2)["rejected"], false);
}

#[test]
fn the_first_error_ever_on_a_route_is_no_reason() {
    let world = World::new(&Yaml {
        strategy: "{ canary: { stages: [50], hold: 3s, hold_max: 2m } }".to_owned(),
        ..until_judged("")
    });
    world.deployed("v1");
    world.build(Service { flags: "--fail-path /rare/thing", ..Service::default() });
    let users = Users::everywhere(&world);
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    // Half of these go to the new side: an error or two where none ever was.
    (0..3).for_each(|_| ask(world.listen, "/rare/thing"));
    deploy.wait().expect(0);
    drop(users);
    assert_eq!(world.row(2)["status"], "stable");
}

#[test]
fn a_side_that_answers_nobody_any_more_fails() {
    let world = World::new(&until_judged(""));
    world.deployed("v1");
    world.build(Service { flags: "--latency-ms 3600000", ..Service::default() });
    let users = Users::everywhere(&world);
    world.deploy("v2").expect(10);
    drop(users);
    let reason = taken_back(&world, 2);
    assert!(reason.contains("although it should get 30.0 %"), "{reason}");
    assert_eq!(world.row(3)["trigger"], "no_traffic");
}

#[test]
fn requests_of_our_own_judge_where_users_are_few() {
    let yaml = until_judged("");
    let health = yaml.health.replace(
        "latency_warm_up: 0s",
        "latency_warm_up: 0s, synthetic: { path: /cart/total, rate: 40/s }",
    );
    let world = World::new(&Yaml { health, ..yaml });
    world.deployed("v1");
    world.build(Service { flags: "--fail-path /cart/total", ..Service::default() });
    // No user ever came.
    world.deploy("v2").expect(10);
    let reason = taken_back(&world, 2);
    assert!(reason.contains("canary errors"), "{reason}");
    let account = world.run(&["judge", "explain", "2", "--format", "json"]).expect(0).json();
    assert_eq!(account["canary"]["requests"], 0, "they are no users: {account:#}");
    // A good one passes, and its own requests are enough.
    world.configure(&Yaml {
        strategy: "{ canary: { stages: [30], hold: 1s, hold_max: 20m } }".to_owned(),
        ..Yaml { health: world_health(), ..Yaml::default() }
    });
    world.build(Service { before: ": repaired", ..Service::default() });
    let users = Users::of(&world, vec!["/".to_owned()], Duration::from_millis(700));
    world.deployed("v3");
    drop(users);
}

fn world_health() -> String {
    "  judge: { synthetic: { path: /cart/total, rate: 40/s } }\n".to_owned()
}

#[test]
fn a_repair_right_after_an_abort_is_not_judged_by_the_old_errors() {
    let world = World::new(&until_judged(""));
    world.deployed("v1");
    world.build(Service { flags: "--fail-percent 100", ..Service::default() });
    let users = Users::everywhere(&world);
    world.deploy("v2").expect(10);
    taken_back(&world, 2);
    world.configure(&Yaml {
        strategy: "{ canary: { stages: [30], hold: 2s, hold_max: 2m } }".to_owned(),
        ..until_judged("")
    });
    world.build(Service { before: ": repaired", ..Service::default() });
    world.deployed("v3");
    drop(users);
    world.expect_serving("v3");
}
