//! Where nothing was ever deployed, and that reading changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::{keys, two};
use crate::support::{World, Yaml};

/// Every verb that only reads.
const READING: &[&[&str]] = &[
    &["status"],
    &["status", "--format", "json"],
    &["history"],
    &["history", "--rollbacks", "--format", "json"],
    &["inspect", "#1"],
    &["inspect", "shop", "--show-history"],
    &["doctor"],
];

#[test]
fn without_a_ledger_the_result_is_empty_and_says_what_was_read() {
    let world = World::new(&Yaml::default());
    // One that nobody has deployed here, in the folders of this machine neither: those are looked into too.
    let nowhere = world.read("backout.yaml").replace("app: shop", "app: shop-of-nowhere");
    world.write("backout.yaml", &nowhere);
    let ran = world.run(&["status", "--format", "json"]).expect(0);
    let document = ran.json();
    assert_eq!(document["app"], "shop-of-nowhere");
    let environment = &document["environments"][0];
    assert_eq!(environment["name"], "production");
    for key in ["deployment", "version", "status", "since", "operation", "rollback_readiness"] {
        assert_eq!(environment[key], Value::Null, "{key}");
    }
    assert_eq!(environment["health"], "unknown");
    assert_eq!(environment["weights"], json!([]));
    let folder = world.state_dir().display().to_string();
    ran.says(&folder).says("--state-dir");

    let ran = world.run(&["history", "--format", "json"]).expect(0);
    assert_eq!(ran.json(), json!([]));
    ran.says(&folder);
    let shown = world.run(&["status"]).expect(0).stdout;
    assert!(shown.contains("nothing was deployed yet") && shown.contains(&folder), "{shown}");
    world.run(&["inspect", "#1"]).expect(1).says("nothing was deployed");
    assert_eq!(world.run(&["check", "--format", "json"]).expect(1).json()["health"], "unknown");
    assert!(!world.state_dir().exists(), "a reading verb made the state folder");
}

#[test]
fn who_steers_what_is_not_known_begins_no_history() {
    let world = World::new(&Yaml::default());
    for verb in ["promote", "pause", "resume", "retry", "abort", "recover", "down", "resolve"] {
        let mut args = vec![verb, "--yes"];
        args.extend((verb == "resolve").then_some(["--reason", "it is settled"]).iter().flatten());
        world.run(&args).expect(4).says("is not known in");
        assert!(!world.state_dir().exists(), "`{verb}` made the state folder");
    }
}

#[test]
fn a_wrong_command_line_is_told_to_programs_too() {
    let world = World::new(&Yaml::default());
    let ran = world.run(&["deploy", "--format", "json", "--verison", "1"]).expect(2);
    let document = ran.json();
    assert_eq!(document["exit_code"], 2);
    assert_eq!(document["error"], "unexpected argument '--verison' found");
    assert!(document["hints"][0].as_str().unwrap().contains("'--version'"), "{document}");
    assert!(ran.stderr.contains("--verison"), "{}", ran.stderr);
    assert_eq!(world.run(&["deploy"]).expect(2).stdout, "");
    assert!(
        world.run(&["deploy", "--help", "--format", "json"]).expect(0).stdout.contains("Usage")
    );
}

#[test]
fn the_folder_that_knows_it_is_named() {
    let world = two();
    let other = world.root().join("other");
    let mut command = std::process::Command::new(world.program());
    command
        .args(["status", "--state-dir"])
        .arg(&other)
        .current_dir(world.folder())
        .env("BACKOUT_STATE_DIR", world.state_dir());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains(&other.display().to_string()), "{text}");
    assert!(text.contains(&format!("--state-dir {}", world.state_dir().display())), "{text}");
    assert!(!other.exists());
}

#[test]
fn an_unknown_environment_of_the_file_has_all_keys() {
    let world = two();
    let known = world.status();
    world.configure(&Yaml::blue_green().extra("environments: { production: {}, staging: {} }"));
    let document = super::json(&world, &["status"]);
    let environments = document["environments"].as_array().unwrap();
    assert_eq!(environments.len(), 2);
    assert_eq!(environments[0]["version"], "v2");
    assert_eq!(environments[1]["version"], Value::Null);
    assert_eq!(keys(&environments[0]), keys(&environments[1]));
    assert_eq!(keys(&environments[0]), keys(&known));
    let one = super::json(&world, &["status", "-e", "staging"]);
    assert_eq!(one["environments"].as_array().unwrap().len(), 1);
}

#[test]
fn the_history_of_all_environments_is_one_list() {
    let world = two();
    world.configure(&Yaml::blue_green().extra("environments: { production: {}, staging: {} }"));
    world.run(&["adopt", "-e", "staging", "--version", "v0", "--yes"]).expect(0);
    let told = |args: &[&str]| -> Vec<(String, u64)> {
        let rows = super::json(&world, args);
        let row = |row: &Value| {
            (row["environment"].as_str().unwrap().to_owned(), row["number"].as_u64().unwrap())
        };
        rows.as_array().unwrap().iter().map(row).collect()
    };
    let (staging, production) = ("staging".to_owned(), "production".to_owned());
    let all = [(staging.clone(), 0), (production.clone(), 2), (production.clone(), 1)];
    assert_eq!(told(&["history"]), all, "newest first");
    assert_eq!(told(&["history", "--limit", "2"]), all[..2]);
    assert_eq!(told(&["history", "-e", "production"]), all[1..]);
    let text = world.run(&["history"]).expect(0).stdout;
    assert!(text.contains("ENVIRONMENT"), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.contains("v0")).collect();
    assert!(rows.len() == 1 && rows[0].contains("staging"), "{text}");
    // One that can't be read hides no other.
    world.configure(
        &Yaml::blue_green()
            .extra("environments: { production: {}, staging: { bake_time: \"${NOT_SET}\" } }"),
    );
    let text = world.run(&["history"]).expect(0).stdout;
    assert!(text.contains("v2") && text.contains("shop/staging is not shown"), "{text}");
    let ran = world.run(&["history", "--format", "json"]).expect(0);
    let ran = ran.says("shop/staging is not shown");
    assert_eq!(ran.json().as_array().unwrap().len(), 2);
}

#[test]
fn an_environment_that_needs_more_than_there_is_does_not_hide_the_others() {
    let world = two();
    world.configure(
        &Yaml::blue_green()
            .extra("environments: { production: {}, staging: { bake_time: \"${NOT_SET}\" } }"),
    );
    let ran =
        world.run(&["status", "--format", "json"]).expect(0).says("shop/staging is not shown");
    assert_eq!(ran.json()["environments"].as_array().unwrap().len(), 1);
    world.run(&["status", "-e", "staging"]).expect(2);
    world.write("backout.yaml", "app: shop\nno_such_key: 1\n");
    world.run(&["status"]).expect(2).says("no_such_key");
}

/// Paths, sizes, modes, contents of everything in a folder; logs of programs grow by themselves.
fn everything(folder: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let name = path.display().to_string();
        let mode = meta.permissions().mode();
        if meta.is_dir() {
            found.insert(name, (mode, Vec::new()));
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if meta.is_file() && !name.ends_with(".db-shm") {
            found.insert(name, (mode, std::fs::read(&path).unwrap()));
        }
    }
    found
}

#[track_caller]
fn reading_changes_nothing(world: &World) {
    let before = everything(world.root());
    for args in READING {
        let mut command = world.command(args);
        let output = command.output().unwrap();
        assert!(output.status.success() || args[0] == "doctor", "{args:?}: {output:?}");
        let after = everything(world.root());
        let changed: Vec<&String> = before
            .keys()
            .chain(after.keys())
            .filter(|path| before.get(*path) != after.get(*path))
            .collect();
        assert!(changed.is_empty(), "`backout {}` changed {changed:?}", args.join(" "));
    }
}

#[test]
fn reading_changes_no_file() {
    let world = two();
    reading_changes_nothing(&world);
    assert!(!world.state_dir().join("ledger.db-wal").exists(), "a log was left behind");
}

#[test]
fn reading_changes_no_file_of_whoever_was_killed() {
    let world = two();
    let killed = world.run_killed(&["deploy", "--version", "v3", "--yes"], "after_effect/start:1");
    assert!(world.state_dir().join("ledger.db-wal").exists(), "{}", killed.stderr);
    reading_changes_nothing(&world);
}
