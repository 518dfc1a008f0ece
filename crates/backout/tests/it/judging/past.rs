//! With nothing beside it: judged against the service's own past.

use crate::support::World;

/// Runs in place.
const SCRIPT: &str = r#"#!/bin/sh
case "$1" in
  deploy|rollback) echo "$BACKOUT_VERSION" > runs ;;
  status) cat runs 2>/dev/null; exit 0 ;;
  stop) rm -f runs ;;
  *) exit 64 ;;
esac
"#;

/// 1 % of the requests fail; of a version with `bad` in it, 20 %. Each reading sees 200 more.
const FIGURES: &str = r#"#!/bin/sh
n=$(cat count 2>/dev/null || echo 0); e=$(cat errors 2>/dev/null || echo 0)
n=$((n + 200))
if grep -q bad runs; then e=$((e + 40)); else e=$((e + 2)); fi
echo $n > count.new; mv count.new count
echo $e > errors.new; mv errors.new errors
echo "requests_total $n"
echo "requests_failed $e"
"#;

fn world() -> World {
    let world = World::bare();
    world.script("deploy.sh", SCRIPT);
    world.script("figures.sh", FIGURES);
    world.write(
        "backout.yaml",
        r#"app: shop
target: { script: { program: ./deploy.sh, timeout: 20s } }
health:
  exec: { command: ["true"], timeout: 8s }
  during_rollout: { interval: 100ms }
  consecutive_passes: 2
  metrics:
    command: [./figures.sh]
    interval: 100ms
    requests: { total: requests_total, failed: requests_failed }
  thresholds: { error_rate: { warn: 90%, fail: 95% } }
bake_time: 4s
"#,
    );
    world
}

#[test]
fn a_release_in_place_is_judged_against_what_was_usual() {
    let world = world();
    world.deployed("v1");
    // As usual is good enough.
    world.deployed("v2");
    let ran = world.deploy("v3-bad").expect(10);
    let evidence = ran.stderr;
    assert!(evidence.contains("(no baseline beside it)"), "{evidence}");
    assert_eq!(world.row(3)["status"], "rolled_back");
    assert_eq!(world.row(4)["trigger"], "analysis");
    assert_eq!(world.read("runs").trim(), "v2");
}
