//! `inspect`.

use serde_json::{Value, json};

use super::{has_line, keys, texts, two};
use crate::support::{Service, World, Yaml};

#[test]
fn a_deployment_by_number_id_and_version_is_the_same() {
    let world = two();
    let by_number = super::json(&world, &["inspect", "#2"]);
    assert_eq!(
        keys(&by_number),
        [
            "app",
            "deployment",
            "environment",
            "evidence",
            "incident",
            "journal",
            "live",
            "name",
            "operation",
            "release",
            "rollback",
            "rollbacks",
            "same_release",
            "warnings",
            "what",
        ]
    );
    assert_eq!(by_number["what"], "deployment");
    assert_eq!(by_number["live"], true);
    assert_eq!(
        (&by_number["app"], &by_number["environment"]),
        (&json!("shop"), &json!("production"))
    );
    assert_eq!(by_number["deployment"], world.row(2));
    assert_eq!(by_number["rollback"], Value::Null);
    assert_eq!(by_number["journal"], Value::Null);
    let id = by_number["deployment"]["id"].as_str().unwrap().to_owned();
    for name in ["2", &id, "v2"] {
        let other = super::json(&world, &["inspect", name]);
        assert_eq!(other["deployment"], by_number["deployment"], "{name}");
        assert_eq!(other["release"], by_number["release"], "{name}");
    }
}

#[test]
fn the_release_and_every_step_are_there() {
    let world = World::new(&Yaml::blue_green().bake("0s").extra("config: [app.env]"));
    world.write("app.env", "A=1\n");
    world.deployed("v1");
    let shown = super::json(&world, &["inspect", "#1"]);
    let release = &shown["release"];
    assert_eq!(
        keys(release),
        [
            "app",
            "artifacts",
            "config",
            "created_at",
            "created_by",
            "id",
            "origins",
            "services",
            "version",
            "versions",
        ]
    );
    assert_eq!(release["artifacts"][0]["path"], "app");
    assert_eq!(release["config"][0]["path"], "app.env");
    assert_eq!(release["services"]["shop"]["target"]["process"]["command"][1], "{version}");
    let operation = &shown["operation"];
    assert_eq!(operation["state"], "done");
    let steps = operation["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"start") && names.contains(&"await_ready"), "{names:?}");
    for step in steps {
        assert_eq!(step["status"], "done", "{step}");
        assert_eq!(step["attempts"], 1, "{step}");
        assert!(step["duration_ms"].is_u64(), "{step}");
    }
    let ran = world.run(&["inspect", "v1"]).expect(0);
    has_line(&ran, "shop/production #1 v1 stable live now");
    has_line(&ran, "artifact app sha256:");
    has_line(&ran, "config app.env 0644 4 B sha256:");
    has_line(&ran, "start done 1");
}

#[test]
fn a_rollback_an_operation_and_a_release_are_found_by_id() {
    let world = two();
    let record = world.rollback(&["--force", "--reason", "why not"]).expect(0).json();
    let id = record["id"].as_str().unwrap();
    let shown = super::json(&world, &["inspect", id]);
    assert_eq!(shown["what"], "rollback");
    assert_eq!(shown["rollback"]["id"], record["id"]);
    assert_eq!(shown["rollback"]["steps"], record["steps"]);
    assert_eq!(shown["deployment"]["number"], 3);
    has_line(&world.run(&["inspect", id]).expect(0), "type previous, manual (cli)");

    let operation = shown["operation"]["id"].as_str().unwrap();
    let by_operation = super::json(&world, &["inspect", operation]);
    assert_eq!(by_operation["what"], "operation");
    assert_eq!(by_operation["deployment"], shown["deployment"]);
    assert_eq!(by_operation["rollback"], shown["rollback"]);

    let release = shown["release"]["id"].as_str().unwrap();
    let by_release = super::json(&world, &["inspect", release]);
    assert_eq!(by_release["what"], "release");
    assert_eq!(by_release["release"], shown["release"]);
    let numbers: Vec<&Value> =
        by_release["same_release"].as_array().unwrap().iter().map(|row| &row["number"]).collect();
    assert_eq!(numbers, [3, 1]);
}

#[test]
fn show_history_adds_journal_relatives_and_rollbacks() {
    let world = two();
    world.rollback(&["--force"]).expect(0);
    let shown = super::json(&world, &["inspect", "#3", "--show-history"]);
    let journal = shown["journal"].as_array().unwrap();
    assert!(journal[0]["kind"]["claimed"]["holder"].is_string(), "{}", journal[0]);
    assert!(journal.last().unwrap()["kind"]["ended"].is_object());
    let done = |name: &str| {
        let steps = shown["operation"]["steps"].as_array().unwrap();
        let at = steps.iter().position(|step| step["name"] == name).unwrap();
        journal.iter().map(|entry| &entry["kind"]["step_done"]).find(|done| done["step"] == at)
    };
    let moved = done("shift_traffic").unwrap();
    assert!(moved["receipt"]["took_us"].as_u64() > Some(0), "{moved}");
    assert_eq!(shown["same_release"][0]["number"], 1);
    assert_eq!(shown["rollbacks"][0]["deployment_to"], 3);
    let ran = world.run(&["inspect", "#3", "--show-history"]).expect(0);
    for head in ["journal", "deployments of this release", "rollbacks of this environment"] {
        has_line(&ran, head);
    }
    assert!(ran.stdout.contains("every user is on a good release"), "{}", ran.stdout);
}

#[test]
fn a_verdict_shows_its_evidence() {
    let world = two();
    world.build(Service { flags: "--health-unhealthy", ..Service::default() });
    world.deploy("v3").expect(10);
    let shown = super::json(&world, &["inspect", "v3"]);
    assert_eq!(shown["deployment"]["rejected"], true);
    assert_eq!(shown["operation"]["state"], "taken_back");
    assert!(!texts(&shown["evidence"]).is_empty(), "{shown}");
    let ran = world.run(&["inspect", "v3"]).expect(0);
    has_line(&ran, "shop/production #3 v3 rolled_back rejected");
    has_line(&ran, "evidence");
    assert!(ran.stdout.contains("ended here") && ran.stdout.contains("not run"), "{}", ran.stdout);
}

#[test]
fn the_app_shows_its_environments_and_their_rollbacks() {
    let world = two();
    world.rollback(&["--force"]).expect(0);
    let short = super::json(&world, &["inspect", "shop"]);
    assert_eq!(short["what"], "app");
    let environment = &short["environments"][0];
    assert_eq!(environment["version"], "v1");
    assert_eq!(environment["rollbacks"][0]["from_version"], "v2");
    assert_eq!(environment["rollbacks"][0]["notification_sent"], false);
    assert_eq!(environment["history"], json!([]));
    let long = super::json(&world, &["inspect", "shop", "--show-history"]);
    assert_eq!(long["environments"][0]["history"].as_array().unwrap().len(), 3);
    let ran = world.run(&["inspect", "shop", "--show-history"]).expect(0);
    has_line(&ran, "shop/production #3 v1 stable");
    has_line(&ran, "3 v2 v1 completed");
}

#[test]
fn what_is_not_recorded_is_an_error() {
    let world = two();
    for name in ["#9", "v9", "dep_000000000000000000000000", "op_x", "rb_x", "rel_x"] {
        world.run(&["inspect", name]).expect(1).says("nothing is recorded as");
    }
    world.run(&["inspect", "#x"]).expect(2);
}
