//! `history`.

use serde_json::{Value, json};

use super::{has_line, keys, two};
use crate::support::{Service, World};

/// v1, v2, a v3 that was taken back by itself, and a rollback by hand.
fn eventful() -> World {
    let world = two();
    world.build(Service { flags: "--health-unhealthy", ..Service::default() });
    world.deploy("v3").expect(10);
    world.rollback(&["--version", "v1", "--force", "--reason", "checkout fails"]).expect(0);
    world
}

#[test]
fn newest_first_with_every_field() {
    let world = eventful();
    let rows = world.history();
    let numbers: Vec<&Value> = rows.iter().map(|row| &row["number"]).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);
    for row in &rows {
        assert_eq!(
            keys(row),
            [
                "app",
                "completed_at",
                "drill",
                "duration_ms",
                "environment",
                "error_message",
                "forced",
                "from_number",
                "from_version",
                "health",
                "id",
                "kind",
                "number",
                "operation",
                "partial",
                "reason",
                "rejected",
                "release",
                "requested_by",
                "restore_ms",
                "rollback_type",
                "services",
                "slot",
                "started_at",
                "status",
                "surface",
                "trigger",
                "version",
                "warnings",
            ]
        );
    }
    let rollback = &rows[0];
    assert_eq!(rollback["kind"], "rollback");
    assert_eq!(rollback["version"], "v1");
    assert_eq!(rollback["from_version"], "v2");
    assert_eq!(rollback["rollback_type"], "specific");
    assert_eq!(rollback["trigger"], "manual");
    assert_eq!(rollback["surface"], "cli");
    assert_eq!(rollback["reason"], "checkout fails");
    assert_eq!(rollback["forced"], true);
    assert_eq!(rollback["error_message"], Value::Null);
    assert!(
        rollback["duration_ms"].as_u64().is_some()
            && rollback["id"].as_str().unwrap().starts_with("dep_")
    );
    assert_eq!(rows[2]["status"], "rolled_back");
    assert_eq!(rows[2]["rejected"], true);
}

#[test]
fn filters_choose() {
    let world = eventful();
    let numbers = |args: &[&str]| -> Vec<u64> {
        let args: Vec<&str> = ["history"].into_iter().chain(args.iter().copied()).collect();
        let rows = super::json(&world, &args);
        rows.as_array().unwrap().iter().map(|row| row["number"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&["--rollbacks"]), [5, 4]);
    assert_eq!(numbers(&["--limit", "2"]), [5, 4]);
    assert_eq!(numbers(&["--status", "rolled_back", "--limit", "1"]).len(), 1);
    assert_eq!(numbers(&["--status", "stuck"]), [0; 0]);
    assert_eq!(numbers(&["--since", "1h ago"]), [5, 4, 3, 2, 1]);
    let second = world.row(2)["started_at"].as_str().unwrap().to_owned();
    assert_eq!(numbers(&["--since", &second]), [5, 4, 3, 2]);
    world.run(&["history", "--status", "stabel"]).expect(2).says("stable");
    has_line(&world.run(&["history", "--status", "stuck"]).expect(0), "no deployment matches");
}

#[test]
fn people_see_a_table() {
    let world = eventful();
    let ran = world.run(&["history"]).expect(0);
    has_line(&ran, "# VERSION STATUS STARTED (UTC) AGE TOOK WHAT");
    has_line(&ran, "5 v1 stable 20");
    has_line(&ran, "3 v3 rolled_back 20");
    assert!(ran.stdout.contains("rollback (manual) from v2: checkout fails"), "{}", ran.stdout);
    let short = world.run(&["history", "--limit", "2"]).expect(0).stdout;
    assert!(short.contains("older ones"), "{short}");
    assert!(!ran.stdout.contains("older ones"), "{}", ran.stdout);
}

/// Breaks the JSON of one deployment inside of the ledger's file.
fn damage(world: &World, id: &str) {
    let path = world.state_dir().join("ledger.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let needle = format!("{{\"id\":\"{id}\"");
    let found: Vec<usize> = bytes
        .windows(needle.len())
        .enumerate()
        .filter(|(_, window)| *window == needle.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!found.is_empty(), "the record of {id} is not in the file");
    for at in found {
        bytes[at] = b'(';
    }
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_damaged_record_is_shown_as_such_beside_the_others() {
    let world = two();
    damage(&world, world.row(1)["id"].as_str().unwrap());
    let rows = world.history();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["status"], "stable");
    assert_eq!(rows[1]["number"], 1);
    assert_eq!(rows[1]["status"], Value::Null);
    assert_eq!(keys(&rows[0]), keys(&rows[1]));
    let error = rows[1]["error_message"].as_str().unwrap();
    assert!(error.contains("deployment shop/production #1"), "{error}");
    assert!(world.run(&["history"]).expect(0).stdout.contains("failed to read"));

    let inspected = super::json(&world, &["inspect", "#1"]);
    assert!(inspected["deployment"]["error"].is_string(), "{inspected}");
    world.run(&["inspect", "#2", "--show-history"]).expect(0);

    // The live one.
    damage(&world, world.row(2)["id"].as_str().unwrap());
    let status = world.status();
    assert_eq!(status["deployment"], Value::Null);
    assert_eq!(status["weights"][0]["percent"], 100);
    let warnings = super::texts(&status["warnings"]).join("\n");
    assert!(warnings.contains("deployment shop/production #2"), "{warnings}");
    let ran = world.run(&["status"]).expect(0);
    has_line(&ran, "shop/production #2 is live, but its record can't be read");
    assert_eq!(json!(world.history().len()), 2);
}
