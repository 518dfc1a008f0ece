//! The check `service_dependencies` of what changes alone.

use serde_json::Value;

use super::{deploy_alone, end_supervisor_of, scripted, supervised, versions};
use crate::support::{Ran, World};

fn found(ran: &Ran) -> (String, String) {
    let checks = ran.json()["checks"].as_array().unwrap().clone();
    let is_it = |check: &&Value| check["name"] == "service_dependencies";
    let check = checks.iter().find(is_it).unwrap_or_else(|| panic!("{checks:?}"));
    let result = match (check["passed"].as_bool().unwrap(), check["severity"].as_str().unwrap()) {
        (true, _) => "pass",
        (false, severity) => severity,
    };
    (result.to_owned(), check["message"].as_str().unwrap().to_owned())
}

/// The check before a rollback.
#[track_caller]
fn before_rollback(world: &World, args: &[&str]) -> (String, String) {
    let all = [&["rollback", "--dry-run", "--force", "--format", "json"], args].concat();
    found(&world.run(&all).expect(0))
}

/// The check before a deploy.
#[track_caller]
fn before_deploy(world: &World, args: &[&str]) -> (String, String) {
    let all = [&["deploy", "--dry-run", "--format", "json"], args].concat();
    found(&world.run(&all).expect(0))
}

#[test]
fn versions_that_were_never_together_are_named() {
    let world = scripted();
    world.deployed("1");
    let (result, message) = before_deploy(&world, &["--version", "2", "--service", "api"]);
    assert_eq!(result, "warning");
    assert_eq!(
        message,
        "api 2 and db 1, which it depends on, were never live and stable together; \
         web 1 and api 2, which it depends on, were never live and stable together"
    );
    let two = ["--version", "2", "--service", "api", "--service", "web"];
    let (_, message) = before_deploy(&world, &two);
    assert!(!message.contains("web 1"), "{message}");
    deploy_alone(&world, "2", &["api"]).expect(0);
    world.rollback(&["--service", "api", "--force"]).expect(0);
    // Both were stable together by now.
    let (result, message) = before_rollback(
        &world,
        &["--service", "api", "--version", "2", "--override", "target_status"],
    );
    assert_eq!(
        (result.as_str(), message.as_str()),
        ("pass", "api and the others were stable together")
    );
}

#[test]
fn what_a_newer_one_needs_is_not_taken_away() {
    let world = scripted();
    world.deployed("1");
    world.deployed("2");
    // Web 2 may need api 2.
    let (result, message) = before_rollback(&world, &["--service", "api"]);
    assert_eq!(result, "error");
    assert!(message.contains("web 2 is newer") && message.contains("--service web"), "{message}");
    world
        .rollback(&["--service", "api", "--force"])
        .expect(4)
        .says("--override service_dependencies");
    assert_eq!(versions(&world), "api 2, db 2, web 2");
    // Together they may go; what they depend on is newer, which is worth a word.
    let (result, message) = before_rollback(&world, &["--service", "api", "--service", "web"]);
    assert_eq!(result, "warning");
    assert!(message.contains("api 1 and db 2"), "{message}");
    let args = ["--service", "api", "--force", "--override", "service_dependencies"];
    let document = world.rollback(&args).expect(0).json();
    assert_eq!(document["overrides"], serde_json::json!(["service_dependencies"]));
    assert_eq!(versions(&world), "api 1, db 2, web 2");
}

#[test]
fn a_dependency_that_does_not_run_refuses() {
    let world = supervised();
    world.deployed("1");
    let (result, _) = before_deploy(&world, &["--version", "2", "--service", "api"]);
    assert_eq!(result, "warning");
    end_supervisor_of(&world, "db");
    let (result, message) = before_deploy(&world, &["--version", "2", "--service", "api"]);
    assert_eq!(result, "error", "{message}");
    assert!(message.contains("db 1 does not run, and api depends on it"), "{message}");
    deploy_alone(&world, "2", &["api"]).expect(4).says("service_dependencies");
    // Nothing that is named depends on web.
    let (result, message) = before_deploy(&world, &["--version", "2", "--service", "db"]);
    assert_eq!(result, "warning", "{message}");
    // Lifted, it is started too.
    let args = [
        "deploy",
        "--version",
        "2",
        "--service",
        "api",
        "--yes",
        "--override",
        "service_dependencies",
    ];
    world.run(&args).expect(0);
    assert_eq!(versions(&world), "api 2, db 1, web 1");
}
