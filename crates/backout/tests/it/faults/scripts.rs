//! Deployment scripts that misbehave.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::support::World;

const GOOD: &str = r#"#!/bin/sh
case $1 in
  deploy|rollback) echo "$BACKOUT_VERSION" > version ;;
  status) cat version 2>/dev/null || true ;;
  stop) rm -f version ;;
  *) exit 64 ;;
esac
"#;

/// As the good one, but `deploy` does this.
fn that(deploy: &str) -> String {
    GOOD.replace("deploy|rollback)", &format!("deploy) {deploy} ;;\n  rollback)"))
}

fn world() -> World {
    let world = World::bare();
    world.script("deploy.sh", GOOD);
    world.write(
        "backout.yaml",
        r#"app: shop
target: { script: { program: ./deploy.sh, timeout: 1s } }
health:
  exec: { command: [test, -s, version] }
  during_rollout: { interval: 100ms }
  consecutive_passes: 2
bake_time: 100ms
"#,
    );
    world
}

#[track_caller]
fn still_on_v1(world: &World) {
    assert_eq!(world.read("version"), "v1\n");
    let status = world.status();
    assert_eq!((&status["version"], &status["operation"]), (&json!("v1"), &json!(null)));
    assert_eq!(status["status"], "stable");
}

#[test]
fn one_that_is_missing_or_not_executable_is_said_so() {
    let world = world();
    fs::remove_file(world.folder().join("deploy.sh")).unwrap();
    world.deploy("v1").expect(4).says("deploy.sh");
    assert!(world.status()["deployment"].is_null());
    world.script("deploy.sh", GOOD);
    world.deployed("v1");
    fs::set_permissions(world.folder().join("deploy.sh"), Permissions::from_mode(0o644)).unwrap();
    world.deploy("v2").expect(4).says("deploy.sh").says("chmod +x");
    fs::set_permissions(world.folder().join("deploy.sh"), Permissions::from_mode(0o755)).unwrap();
    still_on_v1(&world);
    world.deployed("v3");
    assert_eq!(world.read("version"), "v3\n");
}

#[test]
fn one_that_prints_no_text_is_read_all_the_same() {
    let world = world();
    world.deployed("v1");
    world.script(
        "deploy.sh",
        &that("head -c 300000 /dev/urandom; head -c 300000 /dev/urandom >&2; exit 9"),
    );
    let ran = world.deploy("v2").expect(10);
    assert!(ran.stderr.contains('9') && ran.stderr.len() < 100_000, "{} bytes", ran.stderr.len());
    still_on_v1(&world);
}

#[test]
fn one_that_is_killed_is_an_unknown_outcome_and_looked_at() {
    let world = world();
    world.deployed("v1");
    // It had done its work when it was killed: seen by `status`, and not done twice.
    world.script(
        "deploy.sh",
        &that("echo call >> calls; echo \"$BACKOUT_VERSION\" > version; kill -9 $$"),
    );
    world.deployed("v2");
    assert_eq!((world.read("version").as_str(), world.read("calls").as_str()), ("v2\n", "call\n"));
    // It had not.
    world.script("deploy.sh", &that("echo call >> calls; kill -9 $$"));
    world.deploy("v3").expect(10);
    assert_eq!(world.read("version"), "v2\n");
    assert_eq!(world.status()["version"], "v2");
}

#[test]
fn one_that_hangs_is_ended() {
    let world = world();
    world.deployed("v1");
    // Nobody else sleeps for just as long.
    let span = format!("611{}", std::process::id());
    world.script("deploy.sh", &that(&format!("sleep {span}")));
    world.deploy("v2").expect(10);
    still_on_v1(&world);
    let left = fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let words = format!("sleep\0{span}\0");
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == words.as_bytes())
    });
    assert!(!left, "its children are ended, too");
}

#[test]
fn one_that_can_not_go_back_is_stuck_and_says_what_to_do() {
    let world = world();
    world.deployed("v1");
    world.script(
        "deploy.sh",
        "#!/bin/sh\n[ $1 = status ] && cat version && exit 0\necho broken >&2\nexit 1\n",
    );
    let ran =
        world.deploy("v2").expect(12).says("broken").says("backout retry").says("backout resolve");
    assert!(ran.stdout.contains("stuck"), "{}", ran.stdout);
    let status = world.status();
    assert_eq!((&status["version"], status["operation"].is_object()), (&json!("v1"), true));
    world.script("deploy.sh", GOOD);
    world.run(&["retry"]).expect(0);
    still_on_v1(&world);
}
