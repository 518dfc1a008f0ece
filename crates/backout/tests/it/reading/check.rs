//! `check` and its exit codes.

use rustix::process::Signal;
use serde_json::json;

use super::{has_line, keys, texts, two};
use crate::support::{Background, World, Yaml, free_port, http_get, wait_until};

#[test]
fn healthy_is_0_failing_is_1_and_configuration_is_2() {
    let world = two();
    let document = world.run(&["check", "--format", "json"]).expect(0).json();
    assert_eq!(
        keys(&document),
        ["app", "checked_at", "environment", "findings", "health", "services", "waited_ms"]
    );
    assert_eq!(document["health"], "healthy");
    assert_eq!(document["services"], json!({ "shop": "healthy" }));
    assert_eq!(document["findings"], json!([]));
    has_line(&world.run(&["check"]).expect(0), "shop/production healthy");

    for supervisor in world.supervisors() {
        supervisor.signal(Signal::KILL);
    }
    world.program_of("v2").signal(Signal::KILL);
    wait_until("the end of the program", || world.running().is_empty());
    let document = world.run(&["check", "--format", "json"]).expect(1).json();
    assert_eq!(document["health"], "failing");
    assert!(texts(&document["findings"]).iter().any(|f| f.contains("does not run")), "{document}");
    has_line(&world.run(&["check"]).expect(1), "shop/production failing");

    world.write("backout.yaml", "app: [shop]\n");
    world.run(&["check"]).expect(2);
}

#[test]
fn waiting_ends_when_it_is_healthy_and_else_with_3() {
    let world = World::new(&Yaml::blue_green().bake("0s"));
    let ran = world.run(&["check", "--wait", "--max-wait", "1500ms", "--format", "json"]).expect(3);
    assert_eq!(ran.json()["health"], "unknown");
    let waiting = world.spawn(&["check", "--wait", "--max-wait", "5m", "--format", "json"]);
    world.deployed("v1");
    let document = waiting.wait().expect(0).json();
    assert_eq!(document["health"], "healthy");
    assert!(document["waited_ms"].is_u64());
    world.run(&["check", "--max-wait", "1s"]).expect(2);

    let waiting = world.spawn(&["check", "--wait", "-e", "production"]);
    assert_eq!(waiting.wait().code, Some(0));
    world.run(&["down", "--yes"]).expect(0);
    let waiting = world.spawn(&["check", "--wait"]);
    wait_until("its first look", || waiting.stderr().contains("waiting, unknown: nothing is live"));
    waiting.signal(Signal::INT);
    waiting.wait().expect(3);
}

/// A web service without Backout.
fn service(world: &World, port: u16, body: &str) -> Background {
    world.write("body.json", body);
    let port_text = port.to_string();
    let service = world.spawn(&[
        "demo-service",
        "--version",
        "v7",
        "--port",
        &port_text,
        "--health-body",
        "body.json",
    ]);
    wait_until("the service", || http_get(port, "/").is_ok());
    service
}

#[test]
fn an_endpoint_needs_neither_file_nor_ledger() {
    let world = World::bare();
    for (body, health, code) in [
        (r#"{"status":"healthy","version":"v7"}"#, "healthy", 0),
        (r#"{"status":"degraded"}"#, "warning", 0),
        (r#"{"status":"unhealthy"}"#, "failing", 1),
        (r#"{"status":"healthy","error_rate":3.0}"#, "warning", 0),
        (r#"{"status":"healthy","error_rate":5.0}"#, "failing", 1),
        (r#"{"status":"healthy","availability":99.0}"#, "failing", 1),
        (r#"{"status":"healthy","response_time":1500}"#, "warning", 0),
        (r#"{"status":"healthy","timestamp":"2020-01-01T00:00:00Z"}"#, "unknown", 1),
        ("fine", "healthy", 0),
    ] {
        let port = free_port();
        let service = service(&world, port, body);
        let url = format!("http://127.0.0.1:{port}/health");
        let ran = world.run(&["check", "--endpoint", &url, "--format", "json"]).expect(code);
        let document = ran.json();
        assert_eq!(document["health"], health, "{body}: {document}");
        assert_eq!(document["endpoint"], json!(url));
        drop(service);
    }
    assert!(!world.state_dir().exists());
    let url = format!("http://127.0.0.1:{}/health", free_port());
    let ran = world.run(&["check", "--endpoint", &url]).expect(1);
    assert!(ran.stdout.contains("refused"), "{}", ran.stdout);
    world.run(&["check", "--wait", "--max-wait", "1s", "--endpoint", &url]).expect(3);
    world.run(&["check", "--endpoint", "no url"]).expect(2);
}
