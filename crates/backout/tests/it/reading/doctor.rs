//! `doctor`.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use serde_json::Value;

use super::{has_line, keys, two};
use crate::support::{World, Yaml, wait_until};

/// All items, and the exit code.
#[track_caller]
fn doctor(world: &World) -> (Vec<Value>, Option<i32>) {
    let ran = world.run(&["doctor", "--format", "json"]);
    (ran.json().as_array().unwrap().clone(), ran.code)
}

#[track_caller]
fn item<'a>(items: &'a [Value], name: &str) -> &'a Value {
    items
        .iter()
        .find(|item| item["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {items:?}"))
}

/// Names of items with this status.
fn with<'a>(items: &'a [Value], status: &str) -> Vec<&'a str> {
    let matching = items.iter().filter(|item| item["status"] == status);
    matching.map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn before_the_first_deploy_all_is_ready() {
    let world = World::new(&Yaml::default());
    let (items, code) = doctor(&world);
    assert_eq!((with(&items, "error"), code), (Vec::new(), Some(0)));
    for item in &items {
        assert_eq!(keys(item), ["environment", "fix", "message", "name", "status", "unit"]);
    }
    for name in [
        "kernel",
        "backout",
        "clock",
        "state_folder",
        "disk_space",
        "ledger",
        "configuration",
        "program",
        "artifact",
        "config_files",
        "health",
        "secrets",
        "listen_port",
        "after_reboot",
    ] {
        item(&items, name);
    }
    assert!(!world.state_dir().exists());
}

#[test]
fn what_runs_is_seen_and_the_way_back_is_proven() {
    let world = two();
    let (items, code) = doctor(&world);
    assert_eq!((with(&items, "error"), code), (Vec::new(), Some(0)));
    let warnings = ["rollback_old_release_startable", "after_reboot"];
    assert_eq!(with(&items, "warning"), warnings, "v1 was never rehearsed");
    assert!(
        item(&items, "running")["message"].as_str().unwrap().starts_with("shop v2 runs as process")
    );
    assert!(item(&items, "rollback")["message"].as_str().unwrap().starts_with("ready to #1 v1"));
    for name in ["marker", "lease", "proxy", "listen_port"] {
        assert_eq!(item(&items, name)["status"], "pass");
    }
    let unit = item(&items, "after_reboot")["unit"].as_str().unwrap().to_owned();
    let dir = world.state_dir().display().to_string();
    assert!(unit.contains("recover --yes -e production") && unit.contains(&dir), "{unit}");
    let ran = world.run(&["doctor"]).expect(0);
    has_line(&ran, "ExecStart=");
    has_line(&ran, "ready, with 2 warnings");

    // The command of the unit does bring it back.
    for process in world.supervisors().iter().chain(&world.proxies()) {
        process.signal(Signal::KILL);
    }
    world.program_of("v2").signal(Signal::KILL);
    wait_until("the end of everything", || world.processes().is_empty());
    let (items, code) = doctor(&world);
    assert_eq!((with(&items, "error"), code), (vec!["proxy", "running"], Some(1)));
    assert_eq!(item(&items, "running")["message"], "shop v2 should run and does not");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let status = std::process::Command::new("sh")
        .args(["-c", &format!("exec {start} 2>/dev/null >&2")])
        .env("HOME", world.root().join("home"))
        .current_dir("/")
        .status()
        .unwrap();
    assert!(status.success(), "{start}");
    world.expect_serving("v2");
}

#[test]
fn a_taken_port_names_who_has_it() {
    let world = World::new(&Yaml::default());
    let _taken = TcpListener::bind(("127.0.0.1", world.listen)).unwrap();
    let (items, code) = doctor(&world);
    assert_eq!((with(&items, "error"), code), (vec!["listen_port"], Some(1)));
    let message = item(&items, "listen_port")["message"].as_str().unwrap();
    assert!(message.contains(&std::process::id().to_string()), "{message}");
}

#[test]
fn a_program_that_can_not_be_started_is_told_before_a_deploy() {
    let world = World::new(&Yaml::default());
    let program = world.folder().join("app");
    std::fs::set_permissions(program, Permissions::from_mode(0o644)).unwrap();
    let (items, code) = doctor(&world);
    assert_eq!((with(&items, "error"), code), (vec!["program"], Some(1)));
    assert!(item(&items, "program")["fix"][0].as_str().unwrap().contains("chmod +x"));
}

#[test]
fn files_secrets_and_health_are_looked_at() {
    let yaml = Yaml {
        command: r#"[bin/start, "{artifact}", "{version}"]"#.to_owned(),
        process: "artifact: app, port: auto, env: { TOKEN: }".to_owned(),
        ..Yaml::blue_green()
    };
    let world = World::new(&yaml.extra("secrets: [TOKEN]\nconfig: [app.env]"));
    let (items, code) = doctor(&world);
    assert_eq!(code, Some(1));
    assert_eq!(with(&items, "error"), ["program", "config_files", "secrets"]);
    assert!(item(&items, "secrets")["message"].as_str().unwrap().contains("TOKEN"));
    world.write("app.env", "A=1\n");
    world.write("bin/start", "#!/bin/sh\n");
    let (items, _) = doctor(&world);
    assert_eq!(item(&items, "program")["message"], "bin/start can't be executed");
    let start = world.folder().join("bin/start");
    std::fs::set_permissions(&start, Permissions::from_mode(0o755)).unwrap();
    let ran = world.run_with(&["doctor", "--format", "json"], &[("TOKEN", "x")]);
    assert_eq!(with(ran.json().as_array().unwrap(), "error"), Vec::<&str>::new());
    std::fs::remove_file(world.folder().join("app")).unwrap();
    assert!(with(&doctor(&world).0, "error").contains(&"artifact"));
}

#[test]
fn a_state_folder_that_others_may_write_is_refused() {
    let world = two();
    std::fs::set_permissions(world.state_dir(), Permissions::from_mode(0o777)).unwrap();
    let (items, code) = doctor(&world);
    assert_eq!(code, Some(1));
    assert!(with(&items, "error").contains(&"state_folder"), "{items:?}");
    let fix = item(&items, "state_folder")["fix"][0].as_str().unwrap().to_owned();
    assert!(fix.starts_with("chmod 700 "), "{fix}");
    std::fs::set_permissions(world.state_dir(), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(doctor(&world).1, Some(0));
}

#[test]
fn another_ledgers_marker_is_found() {
    let world = two();
    // The ledger is lost, and a new one is begun beside what runs.
    std::fs::rename(world.state_dir().join("ledger.db"), world.root().join("lost.db")).unwrap();
    world.run(&["adopt", "--version", "v2", "--yes"]);
    let (items, code) = doctor(&world);
    assert_eq!(code, Some(1));
    let marker = item(&items, "marker");
    assert_eq!(marker["status"], "error");
    assert!(marker["message"].as_str().unwrap().contains("another ledger"), "{marker}");
    std::fs::rename(world.root().join("lost.db"), world.state_dir().join("ledger.db")).unwrap();
}

#[test]
fn a_wrong_configuration_is_said_and_exits_with_2() {
    let world = World::new(&Yaml::default().extra("bake_tim: 1s"));
    let (items, code) = doctor(&world);
    assert_eq!((with(&items, "error"), code), (vec!["configuration"], Some(2)));
    assert!(item(&items, "configuration")["message"].as_str().unwrap().contains("bake_time"));
}

#[test]
fn an_interrupted_operation_is_an_error_with_its_remedy() {
    let world = two();
    world.run_killed(&["deploy", "--version", "v3", "--yes"], "after_effect/start:1");
    let (items, code) = doctor(&world);
    assert_eq!(code, Some(1));
    let lease = item(&items, "lease");
    assert_eq!(lease["status"], "error");
    assert!(
        lease["fix"][0].as_str().unwrap().starts_with("backout recover -e production"),
        "{lease}"
    );
}
