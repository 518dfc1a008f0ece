//! Records that can't be read, and ledgers of other versions: one operation is left alone, the rest works.

use std::fs;

use serde_json::{Value, json};

use crate::support::{World, ledger_file};

const SHIP: &str = r#"#!/bin/sh
case $1 in
  deploy|rollback) echo "$BACKOUT_VERSION" > "now-$BACKOUT_ENVIRONMENT" ;;
  status) cat "now-$BACKOUT_ENVIRONMENT" 2>/dev/null || true ;;
  stop) rm -f "now-$BACKOUT_ENVIRONMENT" ;;
  *) exit 64 ;;
esac
"#;

const YAML: &str = r#"app: shop
target: { script: { program: ./ship } }
health:
  exec: { command: ["true"] }
  during_rollout: { interval: 100ms }
  consecutive_passes: 2
bake_time: 0s
environments: { production: {}, staging: {} }
"#;

/// One app in two environments, `v1`, `v2` and `v3` in production, `s1` and `s2` in staging.
fn two_environments() -> World {
    let world = World::bare();
    world.script("ship", SHIP);
    world.write("backout.yaml", YAML);
    for version in ["v1", "v2", "v3"] {
        world.run(&["deploy", "-e", "production", "--version", version, "--yes"]).expect(0);
    }
    for version in ["s1", "s2"] {
        world.run(&["deploy", "-e", "staging", "--version", version, "--yes"]).expect(0);
    }
    world
}

/// A deploy of production that ends in the middle of a step.
fn interrupted(world: &World) {
    let deploy = ["deploy", "-e", "production", "--version", "v4", "--yes"];
    world.run_killed(&deploy, "after_effect/start:1");
}

fn status_of(world: &World, environment: &str) -> Value {
    world.run(&["status", "-e", environment, "--format", "json"]).expect(0).json()["environments"]
        [0]
    .clone()
}

fn versions(world: &World, environment: &str) -> Vec<Value> {
    let history = world.run(&["history", "-e", environment, "--format", "json"]).expect(0).json();
    history.as_array().unwrap().iter().map(|row| row["version"].clone()).collect()
}

/// The other environment is not touched by any of it.
fn staging_works(world: &World, version: &str) {
    assert_eq!(status_of(world, "staging")["operation"], json!(null));
    world.run(&["deploy", "-e", "staging", "--version", version, "--yes"]).expect(0);
    world.run(&["rollback", "-e", "staging", "--force", "--yes"]).expect(0);
    assert_eq!(world.read("now-staging"), "s2\n");
    assert_eq!(world.run(&["doctor", "-e", "staging"]).code, Some(0));
}

const OPEN: &str = "(SELECT id FROM operations WHERE open = 1)";

#[test]
fn a_bad_entry_holds_up_its_own_operation_alone() {
    for harm in ["json = '{ not json'", "format = 999"] {
        let world = two_environments();
        interrupted(&world);
        let state = world.state_dir();
        let sql = format!("UPDATE entries SET {harm} WHERE operation = {OPEN} AND sequence = 2");
        ledger_file::change(&state, &sql);
        let status = status_of(&world, "production");
        assert_eq!(status["operation"]["state"], "quarantined");
        assert_eq!((&status["deployment"], &status["version"]), (&json!(3), &json!("v3")));
        assert_eq!(versions(&world, "production"), ["v4", "v3", "v2", "v1"]);
        staging_works(&world, "s3");
        for verb in [&["rollback"][..], &["recover"], &["deploy", "--version", "v5"], &["down"]] {
            let args = [verb, &["-e", "production", "--yes"]].concat();
            world.run(&args).expect(1).says("entry 2 of op_").says("backout resolve");
        }
        world.run(&["doctor", "-e", "production"]).expect(1);
        let resolve = ["resolve", "-e", "production", "--reason", "seen to by hand", "--yes"];
        world.run(&resolve).expect(0);
        // What it left half-done is taken back as any other.
        world.run(&["rollback", "-e", "production", "--force", "--yes"]).expect(0);
        assert_ne!(world.read("now-production"), "v4\n");
        world.run(&["deploy", "-e", "production", "--version", "v5", "--yes"]).expect(0);
        let verify = world.run(&["audit", "verify"]).expect(1);
        assert!(verify.stdout.contains("entry 2 of op_"), "{}", verify.stdout);
    }
}

#[test]
fn a_bad_plan_can_be_ended_by_hand() {
    for harm in ["json = '{ not json'", "format = 999"] {
        let world = two_environments();
        interrupted(&world);
        let state = world.state_dir();
        ledger_file::change(&state, &format!("UPDATE operations SET {harm} WHERE open = 1"));
        let status = status_of(&world, "production");
        assert_eq!((&status["deployment"], &status["version"]), (&json!(3), &json!("v3")));
        let warnings = status["warnings"].to_string();
        assert!(
            warnings.contains("the plan of op_") && warnings.contains("backout resolve"),
            "{warnings}"
        );
        assert_eq!(versions(&world, "production"), ["v4", "v3", "v2", "v1"]);
        staging_works(&world, "s3");
        for verb in [&["rollback"][..], &["recover"], &["deploy", "--version", "v5"], &["down"]] {
            let args = [verb, &["-e", "production", "--yes"]].concat();
            world.run(&args).expect(1).says("the plan of op_").says("backout resolve");
        }
        let doctor = world.run(&["doctor", "-e", "production"]).expect(1);
        assert!(doctor.stdout.contains("the plan of op_"), "{}", doctor.stdout);
        let resolve = ["resolve", "-e", "production", "--reason", "seen to by hand", "--yes"];
        world.run(&resolve).expect(0);
        world.run(&resolve).expect(4);
        let history =
            world.run(&["history", "-e", "production", "--format", "json"]).expect(0).json();
        assert_eq!((&history[0]["number"], &history[0]["status"]), (&json!(4), &json!("failed")));
        assert!(history[0]["error_message"].as_str().unwrap().contains("seen to by hand"));
        world.run(&["deploy", "-e", "production", "--version", "v5", "--yes"]).expect(0);
        world.run(&["rollback", "-e", "production", "--force", "--yes"]).expect(0);
        assert_eq!(world.read("now-production"), "v3\n");
    }
}

/// Old records are passed by, and what they are not needed for goes on.
#[test]
fn bad_records_of_the_past_stop_nothing_that_does_not_need_them() {
    let world = two_environments();
    let state = world.state_dir();
    let production = "app = 'shop' AND environment = 'production'";
    for sql in [
        format!("UPDATE deployments SET json = 'x' WHERE {production} AND number = 1"),
        format!("UPDATE readiness SET json = 'x' WHERE {production}"),
        format!("UPDATE health SET format = 999 WHERE {production}"),
        format!(
            "UPDATE entries SET json = 'x' WHERE operation =
             (SELECT json ->> '$.operation' FROM deployments WHERE {production} AND number = 2)"
        ),
    ] {
        ledger_file::change(&state, &sql);
    }
    let status = status_of(&world, "production");
    assert_eq!((&status["deployment"], &status["version"]), (&json!(3), &json!("v3")));
    assert_eq!(versions(&world, "production")[..2], ["v3", "v2"]);
    world.run(&["deploy", "-e", "production", "--version", "v4", "--yes"]).expect(0);
    world.run(&["rollback", "-e", "production", "--force", "--yes"]).expect(0);
    assert_eq!(world.read("now-production"), "v3\n");
    world.run(&["rollback", "-e", "production", "--version", "v2", "--force", "--yes"]).expect(0);
    assert_eq!(world.read("now-production"), "v2\n");
    staging_works(&world, "s3");
}

/// Stored by the first version: two environments, and a deploy of production to `v4` that was killed in a step.
const V1: &str = include_str!("../../../backout-ledger/tests/fixtures/v1.sql");

/// What that version kept beside the ledger.
const SCRIPT_STATE: &str = r#"{"format":1,"reports_version":true}"#;

fn first_version() -> World {
    let world = World::bare();
    world.script("ship", SHIP);
    world.write("backout.yaml", &format!("{YAML}config: [app.env]\nsecrets: [TOKEN]\n"));
    world.write("app.env", "COLOR=blue\nTOKEN=t0ps3cret\n");
    world.write("now-production", "v2\n");
    world.write("now-staging", "s1\n");
    ledger_file::restore(&world.state_dir(), V1);
    for environment in ["production", "staging"] {
        let folder = world.state_dir().join("scripts/shop").join(environment);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("shop.json"), SCRIPT_STATE).unwrap();
    }
    world
}

const TOKEN: [(&str, &str); 1] = [("TOKEN", "t0ps3cret")];

#[test]
fn a_deploy_that_an_older_version_left_half_done_is_finished() {
    for (verb, code) in [(&["recover"][..], 10), (&["rollback"], 0)] {
        let world = first_version();
        let before = fs::read(world.state_dir().join("ledger.db")).unwrap();
        let status = status_of(&world, "production");
        assert_eq!(status["operation"]["state"], "interrupted");
        assert_eq!((&status["deployment"], &status["version"]), (&json!(4), &json!("v2")));
        assert_eq!(versions(&world, "production"), ["v4", "v2", "v3", "v2", "v1"]);
        let verify = world.run(&["audit", "verify"]).expect(1);
        assert!(
            verify.stdout.contains("a ledger of an older version gets one"),
            "{}",
            verify.stdout
        );
        assert_eq!(
            fs::read(world.state_dir().join("ledger.db")).unwrap(),
            before,
            "readers change nothing"
        );
        let args = [verb, &["-e", "production", "--yes"]].concat();
        world.run_with(&args, &TOKEN).expect(code);
        assert_eq!(world.read("now-production"), "v2\n");
        assert_eq!(status_of(&world, "production")["operation"], json!(null));
        world.run(&["audit", "verify"]).expect(0);
        let deploy = ["deploy", "-e", "staging", "--version", "s2", "--yes"];
        world.run_with(&deploy, &TOKEN).expect(0);
    }
}

/// Nothing of a newer ledger is read, and nothing is lost: with the newer program at hand it goes on.
#[test]
fn a_newer_ledger_is_left_alone_in_the_middle_of_an_operation() {
    let world = two_environments();
    interrupted(&world);
    let state = world.state_dir();
    let kept = world.root().join("kept.db");
    ledger_file::copy(&state, &kept);
    ledger_file::run(&state, "PRAGMA user_version = 9999");
    let before = fs::read(state.join("ledger.db")).unwrap();
    for verb in [
        &["status"][..],
        &["history", "-e", "production"],
        &["doctor", "-e", "production"],
        &["audit", "verify"],
        &["audit", "export", "--to", "out"],
        &["recover", "-e", "production", "--yes"],
        &["rollback", "-e", "production", "--yes"],
        &["resolve", "-e", "production", "--reason", "x", "--yes"],
        &["deploy", "-e", "staging", "--version", "s3", "--yes"],
    ] {
        let ran = world.run(verb).expect(1);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(
            said.contains("9999") && said.contains("use the newer backout"),
            "{verb:?}: {said}"
        );
    }
    assert_eq!(fs::read(state.join("ledger.db")).unwrap(), before, "not a byte was changed");
    assert!(!world.folder().join("out").exists());
    ledger_file::put_back(&state, &kept);
    world.run(&["recover", "-e", "production", "--yes"]).expect(10);
    assert_eq!(world.read("now-production"), "v3\n");
}
