//! `status` of what is interrupted, stuck, unwatched, unwell or changed on disk.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{has_line, texts, two};
use crate::support::{World, Yaml, wait_until};

/// The commands that continue, as `status` shows them.
fn ways(status: &Value) -> Vec<(String, String)> {
    let text = |way: &Value, key: &str| way[key].as_str().unwrap().to_owned();
    let ways = status["operation"]["continue"].as_array().unwrap();
    ways.iter().map(|way| (text(way, "command"), text(way, "what"))).collect()
}

#[test]
fn an_interrupted_deploy_says_what_recover_would_do() {
    let world = two();
    world.run_killed(&["deploy", "--version", "v3", "--yes"], "after_effect/start:1");
    let status = world.status();
    assert_eq!(status["operation"]["state"], "interrupted");
    assert_eq!(status["operation"]["held"], false);
    assert_eq!(status["watched_by"], Value::Null);
    assert_eq!((&status["deployment"], &status["version"]), (&json!(2), &json!("v2")));
    let dir = world.state_dir().display().to_string();
    let ways = ways(&status);
    assert_eq!(ways[0].0, format!("backout recover -e production --state-dir {dir}"));
    assert_eq!(ways[0].1, "goes back to #2 v2: v3 was never proven ready");
    assert_eq!(ways[1].0, format!("backout rollback -e production --state-dir {dir}"));
    let ran = world.run(&["status"]).expect(0);
    has_line(&ran, "operation deploy #3 v3: interrupted at start");
    has_line(&ran, "backout recover -e production");
    let recovered = world.run(&["recover", "--yes"]);
    assert_eq!(recovered.code, Some(10), "{}", recovered.stderr);
    assert_eq!(world.status()["version"], "v2");
}

#[test]
fn a_dead_man_that_fired_is_shown() {
    let router = r#"{ builtin: { listen: "127.0.0.1:LISTEN", dead_man: 3s } }"#;
    let world = World::new(&Yaml { router: router.to_owned(), ..Yaml::long_hold() });
    world.deployed("v1");
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    deploy.signal(Signal::KILL);
    drop(deploy);
    wait_until("the dead-man", || world.status()["dead_man"]["fired"]["moved"] == true);
    let status = world.status();
    assert_eq!(status["weights"], json!([{ "deployment": 1, "version": "v1", "percent": 100 }]));
    assert_eq!(ways(&status)[0].1, "adopts what the router did and goes back to #1 v1");
    let warnings = texts(&status["warnings"]).join("\n");
    assert!(warnings.contains("moved all traffic to v1"), "{warnings}");
}

#[test]
fn an_unwatched_bake_says_since_when() {
    let world = World::new(&Yaml::blue_green().bake("10m"));
    let deploy = world.deploying("v1");
    world.wait_for_step("bake");
    deploy.signal(Signal::TERM);
    deploy.wait().expect(3);
    let status = world.status();
    assert_eq!((&status["deployment"], &status["status"]), (&json!(1), &json!("baking")));
    assert_eq!(status["operation"]["state"], "unwatched");
    assert!(status["unwatched_since"].is_string(), "{status}");
    assert_eq!(status["watched_by"], Value::Null);
    has_line(
        &world.run(&["status"]).expect(0),
        "operation deploy #1 v1: baking, unwatched since 20",
    );
}

#[test]
fn a_stuck_rollback_names_step_reason_and_what_continues() {
    let world = World::new(&Yaml::recreate().bake("0s"));
    world.deployed("v1");
    world.write("app.txt", "another");
    let build = "app changed\n";
    world.script(
        "app",
        &format!(
            "#!/bin/sh\n# {build}exec {} demo-service --version \"$1\"\n",
            world.program().display()
        ),
    );
    world.deployed("v2");
    let v1 = super::json(&world, &["inspect", "v1"]);
    let digest = v1["release"]["artifacts"][0]["digest"].as_str().unwrap();
    let copy = world.state_dir().join("artifacts").join(digest.strip_prefix("sha256:").unwrap());
    let hidden = world.root().join("hidden");
    std::fs::rename(&copy, &hidden).unwrap();

    let checked = super::json(&world, &["status", "--check"]);
    let readiness = &checked["environments"][0]["rollback_readiness"];
    assert_eq!(readiness["ready"], false);
    has_line(&world.run(&["status"]).expect(0), "rollback NOT ready to #1 v1: artifact_available");

    world.rollback(&["--force", "--override", "artifact_available"]).expect(12);
    let status = world.status();
    let operation = &status["operation"];
    assert_eq!(operation["state"], "stuck");
    assert_eq!(operation["stuck"]["step"], "start");
    let reason = operation["stuck"]["reason"].as_str().unwrap();
    assert!(reason.contains("missing"), "{reason}");
    let commands: Vec<String> = ways(&status).into_iter().map(|way| way.0).collect();
    let dir = world.state_dir().display().to_string();
    assert_eq!(
        commands,
        [
            format!("backout retry -e production --state-dir {dir}"),
            format!("backout rollback -e production --state-dir {dir}"),
            format!("backout resolve -e production --state-dir {dir} --reason TEXT"),
        ]
    );
    has_line(&world.run(&["status"]).expect(0), "operation rollback #3 v1: STUCK at start");

    std::fs::rename(&hidden, &copy).unwrap();
    // What is shown is what works.
    let words: Vec<&str> = commands[0]
        .split(' ')
        .skip(1)
        .filter(|word| *word != "--state-dir" && *word != dir)
        .collect();
    world.run(&words).expect(0);
    assert_eq!(world.status()["version"], "v1");
}

#[test]
fn what_fails_now_is_seen_by_a_check_and_kept_as_last_health() {
    let world = two();
    for supervisor in world.supervisors() {
        supervisor.signal(Signal::KILL);
    }
    world.program_of("v2").signal(Signal::KILL);
    wait_until("the end of the program", || world.running().is_empty());
    assert_eq!(world.status()["health"], "healthy", "nothing is probed without being asked to");
    let checked = &super::json(&world, &["status", "--check"])["environments"][0];
    assert_eq!(checked["health"], "failing");
    assert_eq!(checked["services"][0]["health"], "failing");
    assert!(texts(&checked["findings"]).iter().any(|f| f.contains("does not run")), "{checked}");
    assert_eq!(world.status()["health_last"], "failing");
    has_line(&world.run(&["status"]).expect(0), "shop/production #2 v2 stable failing");
}

#[test]
fn a_router_that_is_gone_is_told() {
    let world = two();
    for proxy in world.proxies() {
        proxy.signal(Signal::KILL);
    }
    wait_until("the end of the proxy", || world.proxies().is_empty());
    let status = world.status();
    let warnings = texts(&status["warnings"]).join("\n");
    assert!(
        warnings.contains("no router answers") && warnings.contains("backout recover"),
        "{warnings}"
    );
    assert_eq!(status["weights_from"], "ledger");
}

#[test]
fn changed_config_files_are_a_warning() {
    let world = World::new(&Yaml::blue_green().bake("0s").extra("config: [app.env]"));
    world.write("app.env", "A=1\n");
    world.deployed("v1");
    assert_eq!(world.status()["config_drift"], json!([]));
    world.write("app.env", "A=2\n");
    let status = world.status();
    assert_eq!(status["config_drift"], json!(["app.env"]));
    has_line(&world.run(&["status"]).expect(0), "warning config on disk differs from #1: app.env");
    world.write("app.env", "A=1\n");
    assert_eq!(world.status()["config_drift"], json!([]));
}

/// Breaks the JSON of the newest journal entry that holds `words` inside of the ledger's file.
fn damage_entry(world: &World, words: &str) {
    let path = world.state_dir().join("ledger.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(words.len()).position(|window| window == words.as_bytes()).unwrap();
    bytes[at] = b'(';
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_journal_that_makes_no_sense_is_shown_and_can_be_ended() {
    let world = two();
    world.run_killed(&["deploy", "--version", "v3", "--yes"], "after_effect/start:1");
    // Whoever writes copies the log that was left into the file.
    world.run(&["pause"]).expect(4);
    assert!(!world.state_dir().join("ledger.db-wal").exists());
    let status = world.status();
    let operation = status["operation"]["id"].as_str().unwrap().to_owned();
    let shown = super::json(&world, &["inspect", &operation, "--show-history"]);
    let last = shown["journal"].as_array().unwrap().last().unwrap().clone();
    let at = last["at"].as_str().unwrap();
    damage_entry(&world, &format!("{{\"format\":1,\"at\":\"{at}\""));

    let status = world.status();
    assert_eq!(status["operation"]["state"], "quarantined");
    assert!(status["operation"]["error"].is_string(), "{status}");
    assert_eq!((&status["deployment"], &status["version"]), (&json!(2), &json!("v2")));
    let ways = ways(&status);
    assert!(
        ways[0].0.starts_with("backout inspect ") && ways[0].0.ends_with(&operation),
        "{ways:?}"
    );
    assert!(ways[1].0.starts_with("backout resolve "), "{ways:?}");
    let shown = super::json(&world, &["inspect", &operation, "--show-history"]);
    assert_eq!(shown["operation"]["state"], "unreadable");
    assert!(shown["journal"]["error"].is_string(), "{shown}");
    assert_eq!(shown["deployment"]["number"], 3);
    has_line(
        &world.run(&["status"]).expect(0),
        "operation deploy #3 v3: its journal can't be read",
    );
    assert_eq!(world.run(&["doctor"]).code, Some(1));
    world.run(&["resolve", "--reason", "seen to by hand", "--yes"]).expect(0);
    assert_eq!(world.status()["operation"], Value::Null);
}

#[test]
fn a_bake_that_a_rollback_left_behind_is_unwatched() {
    let world = World::new(&Yaml::blue_green().bake("10m"));
    let deploy = world.deploying("v1");
    world.wait_for_step("bake");
    deploy.signal(Signal::TERM);
    deploy.wait().expect(3);
    // Superseded while it baked, so it was never stable.
    let deploy = world.deploying("v2");
    wait_until("the second bake", || world.status()["deployment"] == 2);
    deploy.signal(Signal::TERM);
    deploy.wait().expect(3);
    world.rollback(&["--force"]).expect(0);
    let status = world.status();
    assert_eq!((&status["version"], &status["status"]), (&json!("v1"), &json!("baking")));
    assert_eq!(status["operation"], Value::Null);
    assert!(status["unwatched_since"].is_string(), "{status}");
    has_line(&world.run(&["status"]).expect(0), "bake unwatched since 20");
}
