//! `audit verify` and `audit export` as people use them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Ran, World, ledger_file};

fn world() -> World {
    let world = World::bare();
    world.script("ship", "#!/bin/sh\n[ \"$1\" != status ] || cat now 2>/dev/null\n[ \"$1\" = status ] || echo \"$BACKOUT_VERSION\" > now\n");
    world.write(
        "backout.yaml",
        "app: shop\ntarget: { script: { program: ./ship } }\nhealth:\n  exec: { command: [\"true\"] }\n  \
         during_rollout: { interval: 100ms }\n  consecutive_passes: 2\nbake_time: 0s\n",
    );
    world.deployed("v1");
    world.deployed("v2");
    world
}

fn verify(world: &World, args: &[&str]) -> Ran {
    world.run(&[&["audit", "verify", "--format", "json"], args].concat())
}

#[track_caller]
fn finds(ran: Ran, kind: &str, words: &str) {
    let found = ran.expect(1).json();
    assert_eq!(found["verified"], false);
    let findings = found["findings"].as_array().unwrap();
    let told = |finding: &Value| {
        finding["kind"] == kind && finding["message"].as_str().unwrap().contains(words)
    };
    assert!(findings.iter().any(told), "no {kind} with `{words}` in {findings:#?}");
}

fn export(world: &World) -> (PathBuf, Value) {
    let folder = world.root().join("elsewhere");
    fs::create_dir_all(&folder).unwrap();
    let to = folder.display().to_string();
    let document =
        world.run(&["audit", "export", "--to", &to, "--format", "json"]).expect(0).json();
    (document["file"].as_str().unwrap().into(), document)
}

#[test]
fn a_history_is_verified_exported_and_verified_against_what_was_exported() {
    let world = world();
    let first = verify(&world, &[]).expect(0).json();
    assert_eq!(first["verified"], true);
    assert!(first["warnings"][0].as_str().unwrap().contains("audit export"), "{first}");
    assert!(!world.state_dir().join("audit").exists(), "reading makes no key");
    let (file, exported) = export(&world);
    assert_eq!((&exported["leaves"], &exported["root"]), (&first["leaves"], &first["root"]));
    assert_eq!(exported["new_key"], true);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    let ledger = exported["ledger"].as_str().unwrap();
    assert_eq!(mode(&world.state_dir().join(format!("audit/{ledger}.key"))), 0o600);
    world.deployed("v3");
    let path = file.display().to_string();
    let later = verify(&world, &["--checkpoint", &path]).expect(0).json();
    assert_eq!(
        later["checkpoints"].as_array().unwrap().len(),
        2,
        "the remembered one and the file"
    );
    assert!(later["leaves"].as_u64() > first["leaves"].as_u64());
    // The few lines of a checkpoint are enough.
    world.write("note", exported["checkpoint"].as_str().unwrap());
    verify(&world, &["--checkpoint", "note"]).expect(0);
    let text = world.run(&["audit", "verify"]).expect(0).stdout;
    assert!(text.starts_with("verified: the history of ledger led_"), "{text}");
    let text = world.run(&["audit", "export", "--to", &path]).expect(0).stdout;
    assert!(text.contains("\u{2014} backout/led_"), "{text}");
}

#[test]
fn verifying_leaves_every_file_as_it_is() {
    let world = world();
    export(&world);
    let files = || {
        let mut files: Vec<_> = fs::read_dir(world.state_dir())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files();
    verify(&world, &[]).expect(0);
    assert_eq!(files(), before);
}

#[test]
fn a_change_is_named_and_nothing_more_is_signed() {
    let world = world();
    let (file, _) = export(&world);
    let before = fs::read(&file).unwrap();
    let sql = "UPDATE deployments SET json = replace(json, '\"version\":\"v1\"', '\"version\":\"v9\"') WHERE number = 1";
    ledger_file::change(&world.state_dir(), sql);
    finds(
        verify(&world, &[]),
        "changed",
        "deployment shop/production #1 was changed after it was written at 20",
    );
    let text = world.run(&["audit", "verify"]).expect(1).stdout;
    assert!(text.starts_with("NOT verified: 1 thing is wrong"), "{text}");
    let path = file.display().to_string();
    let refused =
        world.run(&["audit", "export", "--to", &path, "--format", "json"]).expect(1).json();
    assert_eq!(refused["verified"], false);
    assert_eq!(fs::read(&file).unwrap(), before);
    // It never waits for the log.
    world.rollback(&["--force"]).expect(0);
    world.deployed("v3");
}

#[test]
fn an_older_ledger_put_back_is_told() {
    let world = world();
    let old = world.root().join("old.db");
    ledger_file::copy(&world.state_dir(), &old);
    world.deployed("v3");
    let (file, exported) = export(&world);
    ledger_file::put_back(&world.state_dir(), &old);
    finds(verify(&world, &[]), "shorter", "an older ledger was put back");
    // Whoever puts the whole folder back takes what it remembers along; what is kept elsewhere tells.
    let ledger = exported["ledger"].as_str().unwrap();
    let remembered = world.state_dir().join(format!("audit/{ledger}.checkpoint"));
    let ran = world.run(&["audit", "export", "--to", "out"]).expect(1).says("move");
    assert!(ran.stderr.contains(&remembered.display().to_string()), "{}", ran.stderr);
    fs::remove_file(&remembered).unwrap();
    verify(&world, &[]).expect(0);
    let path = file.display().to_string();
    finds(verify(&world, &["--checkpoint", &path]), "shorter", "an older ledger was put back");
    // A newer export is not lost under an older one.
    world.run(&["audit", "export", "--to", &path]).expect(1);
    // Meant so, it begins anew.
    world.run(&["audit", "export", "--to", "out"]).expect(0);
}

#[test]
fn files_that_are_bad_missing_or_not_ours_are_told_apart() {
    let world = world();
    let (file, exported) = export(&world);
    let path = file.display().to_string();
    verify(&world, &["--checkpoint", "nowhere"]).expect(2).says("nowhere");
    verify(&world, &["--key", "rubbish"]).expect(2).says("NAME+HASH+KEY");
    world.write("rubbish", "not a note\n");
    finds(verify(&world, &["--checkpoint", "rubbish"]), "checkpoint", "it is no signed note");
    let whole = fs::read_to_string(&file).unwrap();
    world.write("cut", &whole[..whole.len() / 2]);
    finds(verify(&world, &["--checkpoint", "cut"]), "checkpoint", "it was cut off");
    world.run(&["audit", "verify", "--export", "cut"]).expect(1).says("it was cut off");
    world.write("bent", &whole.replacen("shop/production", "shop/productioX", 1));
    assert_eq!(verify(&world, &["--export", "bent"]).code, Some(1));
    // Somebody else's key, with our name.
    let other = self::world();
    let (theirs, _) = export(&other);
    let ran = verify(&world, &["--checkpoint", &theirs.display().to_string()]);
    finds(ran, "checkpoint", "of a key that is known here");
    // Nothing but an older export is written over.
    world.run(&["audit", "export", "--to", "backout.yaml"]).expect(4).says("is no export");
    world.run(&["audit", "export", "--to", &path]).expect(0);
    world.run(&["audit", "export", "--to", "no/such/folder"]).expect(1).says("no/such/folder");
    // Elsewhere there is no ledger, only the file and the key.
    let key = exported["key"].as_str().unwrap();
    let away = world.root().join("away").display().to_string();
    let alone = |args: &[&str]| {
        let args = [&["audit", "verify", "--format", "json", "--export", &path][..], args].concat();
        let mut plain = std::process::Command::new(world.program());
        plain.args(&args).args(["--state-dir", &away]).current_dir(world.folder()).env_clear();
        world.spawn_command(plain).wait()
    };
    let ran = alone(&["--key", key]).expect(0).json();
    assert_eq!((&ran["verified"], &ran["ledger"]), (&json!(true), &exported["ledger"]));
    finds(alone(&[]), "checkpoint", "give the public key that you were handed with --key");
    world.write("keys", &format!("{key}\n"));
    alone(&["--key", "keys"]).expect(0);
}

#[test]
fn a_lost_or_exchanged_key_is_said() {
    let world = world();
    let (file, exported) = export(&world);
    let ledger = exported["ledger"].as_str().unwrap();
    let key = world.state_dir().join(format!("audit/{ledger}.key"));
    fs::remove_file(&key).unwrap();
    verify(&world, &["--checkpoint", &file.display().to_string()]).expect(0);
    let again = export(&world).1;
    assert_eq!(again["new_key"], true);
    assert!(again["warnings"][0].as_str().unwrap().contains("the key that signed before is gone"));
    verify(&world, &[]).expect(0);
    let theirs = self::world();
    let ledger_of_theirs = export(&theirs).1["ledger"].as_str().unwrap().to_owned();
    let foreign =
        fs::read_to_string(theirs.state_dir().join(format!("audit/{ledger_of_theirs}.key")));
    fs::write(&key, foreign.unwrap()).unwrap();
    world.run(&["audit", "export", "--to", "out"]).expect(1).says("it is the key of backout/led_");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    world.run(&["audit", "export", "--to", "out"]).expect(1).says("lets others read it");
    assert!(!world.folder().join("out").exists());
}

#[test]
fn without_a_ledger_it_says_where_it_looked() {
    let world = World::bare();
    world.run(&["audit", "verify"]).expect(1).says("failed to find a ledger").says("--state-dir");
    assert!(!world.state_dir().exists());
}
