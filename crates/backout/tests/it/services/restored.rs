//! Readiness of a release with services from others looks at all that going back to it would read.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{deploy_alone, notes, versions};
use crate::support::{Services, World, ledger_file};

/// Notes what it read in its own copy of the config file.
const PROGRAM: &str = r#"#!/bin/sh
cd "$3" || exit 1
echo "$1 $2 $(head -n 1 "$4/shop.conf")" >> calls
trap 'exit 0' TERM
while :; do sleep 0.05; done
"#;

fn world() -> World {
    let world = World::bare();
    world.script("program", PROGRAM);
    let notes = notes(&world).display().to_string();
    let command = |name: &str| {
        format!("command: [\"{{artifact}}\", {name}, \"{{version}}\", \"{notes}\", \"{{config}}\"]")
    };
    let yaml = Services::supervised("program")
        .and("web", &command("web"))
        .and("api", &command("api"))
        .extra("config: [shop.conf]")
        .extra("secrets: [TOKEN]");
    world.write("backout.yaml", &yaml.text());
    world
}

/// A check of `status --check`.
#[track_caller]
fn check(world: &World, name: &str) -> (Value, String) {
    let status = world.run(&["status", "--check", "--format", "json"]).expect(0).json();
    let readiness = &status["environments"][0]["rollback_readiness"];
    let checks = readiness["checks"].as_array().unwrap_or_else(|| panic!("{readiness:#}"));
    let found = checks.iter().find(|check| check["name"] == name).unwrap();
    assert_eq!(readiness["ready"], found["status"] != "error", "{readiness:#}");
    (found["status"].clone(), found["message"].as_str().unwrap().to_owned())
}

fn forget(world: &World, content: &str) {
    let digest = format!("sha256:{}", backout_core::ids::hex(&Sha256::digest(content)));
    ledger_file::change(
        &world.state_dir(),
        &format!("DELETE FROM blobs WHERE digest = '{digest}'"),
    );
}

#[test]
fn config_files_of_services_from_other_releases_are_looked_at_too() {
    let world = world();
    world.write("shop.conf", "green\n");
    world.deployed("1");
    world.write("shop.conf", "red\n");
    deploy_alone(&world, "2", &["web"]).expect(0);
    world.write("shop.conf", "blue\n");
    world.deployed("3");
    let noted = super::calls(&world);
    for wanted in ["api 1 green", "web 1 green", "web 2 red", "api 3 blue", "web 3 blue"] {
        assert!(noted.contains(&wanted.to_owned()), "{wanted} in {noted:?}");
    }
    // Going back to #2 needs the files of both: red for web and on disk, green for api.
    let (status, message) = check(&world, "config_compatibility");
    assert_eq!(
        (&status, message.as_str()),
        (&"pass".into(), "2 config files in the ledger, each whole")
    );
    forget(&world, "green\n");
    let (status, message) = check(&world, "config_compatibility");
    assert_eq!(status, "error", "{message}");
    assert!(message.contains("shop.conf, which api 1 is started with"), "{message}");
    // It is told before anything is stopped.
    super::calls(&world);
    world.rollback(&["--force"]).expect(4).says("config_compatibility");
    assert_eq!(super::calls(&world), [""; 0]);
    assert_eq!(versions(&world), "api 3, web 3");
}

#[test]
fn a_secret_that_only_an_older_file_had_is_named_beforehand() {
    let world = world();
    world.write("shop.conf", "green\nTOKEN=abc\n");
    world.deployed("1");
    world.write("shop.conf", "red\n");
    // Nobody has the value any more once this file is live.
    world
        .deploy("2")
        .expect(4)
        .says("TOKEN has no value: neither shop.conf on disk nor the environment has one");
    world.set("TOKEN", "abc");
    world.deployed("2");
    assert_eq!(check(&world, "secrets_available").0, "pass");
    world.set("TOKEN", "another");
    world.rollback(&["--force"]).expect(0);
    assert_eq!(world.read("shop.conf"), "green\nTOKEN=another\n");
}
