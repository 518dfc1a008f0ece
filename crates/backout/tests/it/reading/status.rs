//! `status` of what is well, and of what goes on.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{has_line, keys, two};
use crate::support::{World, Yaml, wait_for, wait_until};

#[test]
fn it_has_every_field_that_was_promised() {
    let world = two();
    let document = super::json(&world, &["status"]);
    assert_eq!(keys(&document), ["app", "environments", "state_dir", "state_dir_rule"]);
    let status = &document["environments"][0];
    assert_eq!(
        keys(status),
        [
            "config_drift",
            "controller",
            "dead_man",
            "deployment",
            "findings",
            "health",
            "health_checked_at",
            "health_last",
            "kind",
            "name",
            "operation",
            "orders",
            "release",
            "rollback_readiness",
            "services",
            "since",
            "slots",
            "status",
            "trip",
            "unwatched_since",
            "version",
            "warnings",
            "watched_by",
            "weights",
            "weights_from",
        ]
    );
    assert_eq!(status["name"], "production");
    assert_eq!(status["deployment"], 2);
    assert_eq!(status["version"], "v2");
    assert_eq!(status["status"], "stable");
    assert_eq!(status["health"], "healthy");
    assert_eq!(status["health_last"], "healthy");
    assert_eq!(status["watched_by"], Value::Null);
    assert_eq!(status["operation"], Value::Null);
    assert_eq!(status["weights"], json!([{ "deployment": 2, "version": "v2", "percent": 100 }]));
    assert_eq!(status["weights_from"], "router");
    assert_eq!(
        status["services"],
        json!([{ "name": "shop", "host": "local", "version": "v2", "health": "healthy" }])
    );
    let readiness = &status["rollback_readiness"];
    assert_eq!(
        keys(readiness),
        ["checked_at", "checks", "deployment", "drill", "expected_ms", "found", "ready", "version"]
    );
    assert_eq!((&readiness["deployment"], &readiness["version"]), (&json!(1), &json!("v1")));
    assert_eq!(readiness["ready"], true);
    assert_eq!(keys(&readiness["checks"][0]), ["message", "name", "status"]);
    let row = world.row(2);
    let time = |value: &Value| value.as_str().unwrap().to_owned();
    assert!(time(&row["started_at"]) < time(&status["since"]), "{row}");
    assert!(time(&status["since"]) < time(&row["completed_at"]), "{row}");
}

#[test]
fn people_see_it_in_a_few_lines() {
    let world = two();
    let ran = world.run(&["status"]).expect(0);
    has_line(&ran, "shop/production #2 v2 stable healthy");
    has_line(&ran, "live since 20");
    has_line(&ran, "health healthy, checked");
    has_line(&ran, &format!("traffic #2 v2 100 % on 127.0.0.1:{}", world.listen));
    has_line(&ran, "rollback ready to #1 v1");
    assert!(!ran.stdout.contains('\x1b'), "colour without a terminal: {}", ran.stdout);
}

#[test]
fn in_a_stage_both_sides_are_shown_and_who_watches() {
    let world = World::new(&Yaml::long_hold());
    world.deployed("v1");
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    // The row of the traffic's step is written before its watch begins.
    let status = wait_for("health of the live side", || {
        Some(world.status()).filter(|status| status["health"] == "healthy")
    });
    assert_eq!((&status["deployment"], &status["version"]), (&json!(1), &json!("v1")));
    assert_eq!(status["status"], "stable");
    assert_eq!(
        status["weights"],
        json!([
            { "deployment": 1, "version": "v1", "percent": 50 },
            { "deployment": 2, "version": "v2", "percent": 50 },
        ])
    );
    assert_eq!(status["rollback_readiness"]["deployment"], 1);
    let operation = &status["operation"];
    assert_eq!(
        keys(operation),
        [
            "continue",
            "deployment",
            "error",
            "failing",
            "held",
            "holder",
            "id",
            "kind",
            "paused",
            "since",
            "state",
            "step",
            "step_detail",
            "strategy",
            "stuck",
            "version",
        ]
    );
    assert_eq!(operation["kind"], "deploy");
    assert_eq!(operation["state"], "running");
    assert_eq!(operation["held"], true);
    assert_eq!(operation["version"], "v2");
    assert_eq!(operation["holder"], status["watched_by"]);
    assert!(status["watched_by"].as_str().unwrap().ends_with(&format!(":{}", deploy.pid())));
    assert_eq!(status["dead_man"]["armed"]["after_ms"], 15_000);
    let ran = world.run(&["status"]).expect(0);
    has_line(&ran, "traffic #1 v1 50 %, #2 v2 50 %");
    has_line(&ran, "operation deploy #2 v2: hold_50");

    world.run(&["pause"]).expect(0);
    wait_until("the pause", || world.status()["operation"]["paused"] == true);
    let ran = world.run(&["status"]).expect(0);
    assert!(ran.stdout.contains("(paused)") && ran.stdout.contains("backout resume -e production"));
    world.run(&["abort"]).expect(0);
    deploy.wait().expect(10);
    let status = world.status();
    assert_eq!((&status["deployment"], &status["version"]), (&json!(3), &json!("v1")));
    assert_eq!(
        status["weights"],
        json!([{ "deployment": 3, "version": "v1", "percent": 100 }]),
        "the side that a rollback took over as it was"
    );
}

#[test]
fn without_a_router_the_live_side_has_it_all() {
    let world = World::new(&Yaml {
        router: String::new(),
        process: format!("artifact: app, port: {}", crate::support::free_port()),
        ..Yaml::recreate()
    });
    world.deployed("v1");
    let status = world.status();
    assert_eq!(status["weights"], json!([{ "deployment": 1, "version": "v1", "percent": 100 }]));
    assert_eq!(status["weights_from"], "ledger");
    assert_eq!(status["rollback_readiness"], Value::Null);
    let ran = world.run(&["status"]).expect(0);
    has_line(&ran, "rollback nothing to go back to yet");
    assert!(!ran.stdout.contains("traffic"), "{}", ran.stdout);
    world.run(&["down", "--yes"]).expect(0);
    let status = world.status();
    assert_eq!((&status["deployment"], &status["health"]), (&Value::Null, &json!("unknown")));
    assert_eq!(status["weights"], json!([]));
    has_line(&world.run(&["status"]).expect(0), "shop/production nothing is live");
}

#[test]
fn watching_prints_what_changed_and_ends_well() {
    let world = two();
    let watch = world.spawn(&["status", "-w"]);
    let shown = || watch.stdout();
    wait_until("the first look", || shown().contains("#2 v2"));
    world.deployed("v3");
    wait_until("the change", || shown().contains("#3 v3  stable"));
    watch.signal(Signal::INT);
    let ran = watch.wait().expect(0);
    assert!(!ran.stdout.contains('\x1b'), "{}", ran.stdout);

    let lines = world.spawn(&["status", "-w", "--format", "json"]);
    let printed = || lines.stdout();
    wait_until("the first document", || printed().ends_with('\n'));
    lines.signal(Signal::INT);
    for line in lines.wait().expect(0).stdout.lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        assert_eq!(document["environments"][0]["version"], "v3");
    }
}

#[test]
fn on_a_terminal_it_is_shown_in_place_and_in_colour() {
    let world = two();
    let mut terminal = world.terminal(&["status", "-w"]);
    terminal.wait_to_show("rollback");
    let first = terminal.seen();
    assert!(first.contains("\x1b[2J\x1b[H"), "{first:?}");
    assert!(first.contains("\x1b[32mhealthy"), "{first:?}");
    wait_until("a second look in the same place", || terminal.seen().matches("\x1b[H").count() > 1);
    terminal.types("\x03");
    assert_eq!(terminal.wait().code(), Some(0));
}
