//! An own deployment script: recreate, and stages through its `update-traffic`.

use std::fs;

use crate::support::{World, wait_until};

/// Notes every call with its environment; keeps per slot what runs. A file `fail-VERB` makes that verb fail with its text
/// as exit code, and `hang-VERB` makes it wait.
const SCRIPT: &str = r#"#!/bin/sh
echo "$*|$BACKOUT_VERSION|from=$BACKOUT_FROM_VERSION|$BACKOUT_SLOT|$BACKOUT_APP/$BACKOUT_ENVIRONMENT/$BACKOUT_SERVICE|#$BACKOUT_DEPLOYMENT" >> calls
env | grep -E '^(BACKOUT_|DEPLOYMENT_ID|COMMIT_SHA|PREVIOUS_COMMIT|BUILD_ID|CALLER)' | sort > "env-$1"
[ -e "hang-$1" ] && sleep 30
[ -e "slow-$1" ] && sleep 12
code=$(cat "fail-$1" 2> /dev/null) && exit "$code"
case "$1" in
  deploy|rollback) echo "$BACKOUT_VERSION" > "runs-$BACKOUT_SLOT" ;;
  update-traffic) echo "$2 $3" >> traffic ;;
  status) cat "runs-$BACKOUT_SLOT" 2>/dev/null; exit 0 ;;
  stop) rm -f "runs-$BACKOUT_SLOT" ;;
  *) exit 64 ;;
esac
"#;

/// A version with the word `bad` in it fails its check.
const CHECK: &str = "#!/bin/sh\n! grep -q bad \"runs-$1\"\n";

fn world(more: &str) -> World {
    let world = World::bare();
    world.script("deploy.sh", SCRIPT);
    world.script("check.sh", CHECK);
    world.write(
        "backout.yaml",
        &format!(
            r#"app: shop
target: {{ script: {{ program: ./deploy.sh, timeout: 20s }} }}
health:
  exec: {{ command: [./check.sh, "{{slot}}"], timeout: 8s }}
  during_rollout: {{ interval: 100ms }}
  consecutive_passes: 2
  startup_timeout: 40s
bake_time: 500ms
{more}"#
        ),
    );
    world
}

const CANARY: &str = "router: script\nstrategy: { canary: { stages: [25, 50], hold: 300ms, hold_max: 2s, on_no_data: rollback } }\n";

/// Calls that change something, in short: `deploy v1 a`.
fn changes(world: &World) -> Vec<String> {
    let calls = world.read("calls");
    calls
        .lines()
        .filter(|line| !line.starts_with("status"))
        .map(|line| {
            let parts: Vec<&str> = line.split('|').collect();
            format!("{} {} {}", parts[0], parts[1], parts[3])
        })
        .collect()
}

fn forget_calls(world: &World) {
    fs::remove_file(world.folder().join("calls")).unwrap();
}

#[test]
fn recreate_deploys_in_place_and_goes_back_by_rollback() {
    let world = world("");
    world.deployed("v1");
    world.deployed("v2");
    assert_eq!(changes(&world), ["deploy v1 a", "deploy v2 a"]);
    assert_eq!(world.read("runs-a").trim(), "v2");
    forget_calls(&world);
    world.deploy("v3-bad").expect(10);
    assert_eq!(changes(&world), ["deploy v3-bad a", "rollback v2 a"]);
    assert_eq!(world.read("runs-a").trim(), "v2");
    assert_eq!(
        world.story()[..2],
        ["#4 rollback v2 stable", "#3 deploy v3-bad rolled_back rejected"]
    );
    forget_calls(&world);
    world.rollback(&["--force"]).expect(0);
    assert_eq!(changes(&world), ["rollback v1 a"]);
    assert_eq!(world.read("runs-a").trim(), "v1");
}

/// Where no line changes, somebody who reads along learns that it goes on.
#[test]
fn a_step_that_takes_its_time_is_told() {
    let world = world("");
    world.write("slow-deploy", "");
    let ran = world.deploy("v1").expect(0);
    let told: Vec<&str> =
        ran.stderr.lines().filter(|line| line.contains("...     start ")).collect();
    assert!(told.len() == 1 && told[0].contains("start shop@local 1"), "{}", ran.stderr);
    // On the way back nothing is told of the steps that it ended.
    std::fs::remove_file(world.folder().join("slow-deploy")).unwrap();
    world.write("slow-rollback", "");
    let ran = world.deploy("v2-bad").expect(10);
    let told: Vec<&str> =
        ran.stderr.lines().filter(|line| line.contains("...     start ")).collect();
    assert!(told.len() == 1 && told[0].contains("start shop@local 1"), "{}", ran.stderr);
    assert!(!ran.stderr.contains(" more "), "{}", ran.stderr);
}

#[test]
fn what_the_script_is_told() {
    let world = world("");
    world.deployed("v1");
    world.run_with(&["deploy", "--version", "v2", "--yes"], &[("CALLER", "yes")]).expect(0);
    let told = world.read("env-deploy");
    for line in [
        "BACKOUT_APP=shop",
        "BACKOUT_ENVIRONMENT=production",
        "BACKOUT_SERVICE=shop",
        "BACKOUT_VERSION=v2",
        "BACKOUT_FROM_VERSION=v1",
        "BACKOUT_SLOT=a",
        "BACKOUT_DEPLOYMENT=2",
        "COMMIT_SHA=v2",
        "PREVIOUS_COMMIT=v1",
        "CALLER=yes",
    ] {
        assert!(told.lines().any(|other| other == line), "{line} is missing in\n{told}");
    }
    for name in [
        "BACKOUT_RELEASE",
        "BACKOUT_OPERATION_ID",
        "BACKOUT_STEP_ID",
        "BACKOUT_EPOCH",
        "DEPLOYMENT_ID",
        "BUILD_ID",
    ] {
        let set = told.lines().any(|line| {
            line.split_once('=').is_some_and(|(key, value)| key == name && !value.is_empty())
        });
        assert!(set, "{name} is missing in\n{told}");
    }
    world.rollback(&["--force", "--reason", "checkout fails"]).expect(0);
    let told = world.read("env-rollback");
    for line in ["BACKOUT_VERSION=v1", "BACKOUT_FROM_VERSION=v2", "BACKOUT_REASON=checkout fails"] {
        assert!(told.lines().any(|other| other == line), "{line} is missing in\n{told}");
    }
}

#[test]
fn a_first_deployment_that_fails_is_stopped() {
    let world = world("");
    world.deploy("v1-bad").expect(1);
    assert_eq!(changes(&world), ["deploy v1-bad a", "stop v1-bad a"]);
    assert_eq!(world.read("runs-a"), "");
    assert_eq!(world.status()["deployment"], serde_json::Value::Null);
}

#[test]
fn adopt_takes_the_version_from_status() {
    let world = world("");
    world.write("runs-a", "v0\n");
    world.run(&["adopt", "--yes"]).expect(0);
    assert!(changes(&world).is_empty());
    // It has spoken once, to another process: its silence means that nothing runs.
    world.write("runs-a", "");
    world.run(&["recover", "--yes"]).expect(0);
    assert_eq!(changes(&world), ["rollback v0 a"]);
    forget_calls(&world);
    world.deploy("v1-bad").expect(10);
    assert_eq!(changes(&world), ["deploy v1-bad a", "rollback v0 a"]);
    assert_eq!(world.read("runs-a").trim(), "v0");
}

/// Nobody has ever heard it speak: its silence says nothing, and what may well run is left alone.
#[test]
fn an_adopted_script_that_never_spoke_is_not_taken_for_dead() {
    let world = world("");
    world.run(&["adopt", "--version", "v0", "--yes"]).expect(0);
    world.run(&["recover", "--yes"]);
    assert!(changes(&world).is_empty(), "{:?}", changes(&world));
    world.deploy("v1-bad").expect(10);
    assert_eq!(changes(&world), ["deploy v1-bad a", "rollback v0 a"]);
}

#[test]
fn a_canary_moves_traffic_in_stages() {
    let world = world(CANARY);
    world.deployed("v1");
    forget_calls(&world);
    world.deployed("v2");
    assert_eq!(
        changes(&world),
        [
            "deploy v2 b",
            "update-traffic 25 25 v2 b",
            "update-traffic 50 50 v2 b",
            "update-traffic 100 100 v2 b",
            "stop v1 a"
        ]
    );
    assert_eq!((world.read("runs-a").as_str(), world.read("runs-b").trim()), ("", "v2"));
}

#[test]
fn a_canary_that_fails_moves_traffic_back_first() {
    let world = world(CANARY);
    world.deployed("v1");
    forget_calls(&world);
    // Good until it gets traffic.
    world.script(
        "deploy.sh",
        &SCRIPT.replace(
            "update-traffic) ",
            "update-traffic) [ \"$2\" = 50 ] && echo bad > \"runs-$BACKOUT_SLOT\"; ",
        ),
    );
    let document = world.deploy("v2").expect(10).json();
    assert_eq!(
        changes(&world),
        [
            "deploy v2 b",
            "update-traffic 25 25 v2 b",
            "update-traffic 50 50 v2 b",
            "update-traffic 0 rollback v2 b",
            "stop v2 b"
        ]
    );
    assert_eq!(document["rollback"]["status"], "completed");
    assert_eq!((world.read("runs-a").trim(), world.read("runs-b").as_str()), ("v1", ""));
}

#[test]
fn try_again_later_is_tried_again() {
    let world = world("");
    world.deployed("v1");
    forget_calls(&world);
    world.write("fail-deploy", "75");
    let deploy = world.deploying("v2");
    wait_until("a second try", || changes(&world).len() >= 2);
    fs::remove_file(world.folder().join("fail-deploy")).unwrap();
    deploy.wait().expect(0);
    let calls = changes(&world);
    assert!(calls.iter().all(|call| call == "deploy v2 a"), "{calls:?}");
    assert_eq!(world.read("runs-a").trim(), "v2");
}

#[test]
fn a_script_that_fails_is_taken_back() {
    let world = world("");
    world.deployed("v1");
    forget_calls(&world);
    world.write("fail-deploy", "1");
    let ran = world.deploy("v2").expect(10);
    assert_eq!(changes(&world).last().unwrap(), "rollback v1 a");
    assert!(ran.stdout.contains("deploy") && world.read("runs-a").trim() == "v1");
}

#[test]
fn a_script_without_status_still_works() {
    let world = world("");
    world.write("fail-status", "64");
    world.deployed("v1");
    world.deployed("v2");
    world.deploy("v3-bad").expect(10);
    assert_eq!(world.read("runs-a").trim(), "v2");
}

#[test]
fn a_rollback_does_not_wait_for_a_script_that_hangs() {
    let world = world("");
    world.deployed("v1");
    forget_calls(&world);
    world.write("hang-deploy", "");
    let deploy = world.deploying("v2");
    wait_until("the call", || !changes(&world).is_empty());
    world.rollback(&["--reason", "it hangs"]).expect(0);
    deploy.wait().expect(10);
    assert_eq!(world.read("runs-a").trim(), "v1");
    let calls = changes(&world);
    assert_eq!(calls.last().unwrap(), "rollback v1 a", "{calls:?}");
    // The hung call was ended before anything else ran.
    assert!(world.processes().iter().all(|process| !process.has("deploy")));
}

#[test]
fn a_kill_in_the_middle_of_the_script_repeats_the_call() {
    let world = world("");
    world.deployed("v1");
    forget_calls(&world);
    world.run_killed(&["deploy", "--version", "v2", "--yes"], "after_intent/start:1");
    assert!(changes(&world).is_empty());
    world.run(&["recover", "--yes"]).expect(10);
    assert_eq!(world.read("runs-a").trim(), "v1");
    forget_calls(&world);
    world.run_killed(&["deploy", "--version", "v3", "--yes"], "after_effect/start:1");
    assert_eq!(changes(&world), ["deploy v3 a"]);
    world.run(&["recover", "--yes"]).expect(10);
    assert_eq!(changes(&world), ["deploy v3 a", "rollback v1 a"]);
}
