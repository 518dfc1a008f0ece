//! Health endpoints that misbehave.

use std::fs::File;

use super::still_on_v1;
use crate::support::{Service, World, Yaml, wait_until};

/// Stages of probes alone, quick to give up.
fn yaml() -> Yaml {
    let yaml = Yaml::blue_green();
    Yaml { health: "  consecutive_failures: { count: 2, within: 60s }\n".to_owned(), ..yaml }
}

fn quick(world: &World) {
    let yaml = world.read("backout.yaml").replace("timeout: 8s", "timeout: 300ms");
    world.write("backout.yaml", &yaml.replace("startup_timeout: 40s", "startup_timeout: 2s"));
}

#[test]
fn an_endpoint_that_hangs_is_not_waited_for() {
    let world = World::new(&yaml());
    world.deployed("v1");
    quick(&world);
    world.build(Service { flags: "--hang-health", ..Service::default() });
    world.deploy("v2").expect(10);
    still_on_v1(&world);
    assert_eq!(world.row(2)["rejected"], true);
}

#[test]
fn a_plain_answer_is_well_unless_fields_are_asked_for() {
    let world = World::new(&yaml());
    world.write("body", "fine, thank you");
    let body = world.folder().join("body").display().to_string();
    let flags = format!("--health-body {body}");
    world.build(Service { flags: &flags, ..Service::default() });
    world.deployed("v1");
    let text = world
        .read("backout.yaml")
        .replace("timeout: 8s", "timeout: 8s, required_fields: [version]");
    world.write("backout.yaml", &text);
    world.deploy("v2").expect(10).says("version");
    still_on_v1(&world);
}

#[test]
fn broken_json_with_required_fields_fails() {
    let world = World::new(&yaml());
    world.deployed("v1");
    let text =
        world.read("backout.yaml").replace("timeout: 8s", "timeout: 8s, required_fields: [status]");
    world.write("backout.yaml", &text);
    world.write("body", "{\"status\": \"healthy\", ");
    let body = world.folder().join("body").display().to_string();
    world.build(Service { flags: &format!("--health-body {body}"), ..Service::default() });
    world.deploy("v2").expect(10);
    still_on_v1(&world);
}

#[test]
fn an_endless_body_is_not_read_to_its_end() {
    let world = World::new(&yaml());
    world.deployed("v1");
    let body = world.folder().join("body");
    // A hole of 100 MB takes no space.
    File::create(&body).unwrap().set_len(100 << 20).unwrap();
    let flags = format!("--health-body {}", body.display());
    world.build(Service { flags: &flags, ..Service::default() });
    let deploy = world.deploying("v2");
    wait_until("its check", || deploy.stderr().contains("bake"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", deploy.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kb: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kb < 90_000, "{peak_kb} kB");
    // A 200 is a 200, unless more is asked for.
    deploy.wait().expect(0);
    let text = world.read("backout.yaml");
    world.write(
        "backout.yaml",
        &text.replace("timeout: 8s", "timeout: 8s, required_fields: [status]"),
    );
    world.deploy("v3").expect(10);
    world.expect_serving("v2");
}
