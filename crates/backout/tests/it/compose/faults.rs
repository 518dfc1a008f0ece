//! After each fault users are on a good release, the ledger is true, and the message is clear.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backout_testkit::docker::{Engine, Registry};

use super::{Shop, WEB};
use crate::support::wait_for;

#[test]
fn what_is_wrong_beforehand_changes_nothing() {
    let shop = Shop::new(false);
    shop.world.deployed("v1");
    shop.expect_serving("v1");
    let containers = shop.containers();
    shop.world.deploy("v9").expect(1).says("v9");
    let good = shop.world.read("compose.yaml");
    shop.world.write("compose.yaml", &good.replace("    image", "   image"));
    shop.world.deploy("v2").expect(1).says("compose.yaml: yaml: line");
    shop.world.write("compose.yaml", &good);
    assert_eq!(shop.containers(), containers);
    shop.expect_serving("v1");
    assert_eq!(shop.world.story(), ["#1 deploy v1 stable"]);
}

#[test]
fn a_container_that_starts_and_dies_is_taken_back() {
    let shop = Shop::new(true);
    shop.world.deployed("v1");
    // It answers, and dies after a while, as often as it is started again.
    let dying = "/bin/busybox httpd -p 8080 -h /www; sleep 2; echo out of memory >&2; exit 9";
    let files = [("www/health", "v3"), ("www/index.html", "v3")];
    shop.engine.image(&shop.image("v3"), &files, &["/bin/sh", "-c", dying]);
    shop.configure(
        "router: { builtin: { listen: \"127.0.0.1:LISTEN\" } }\nstrategy: { canary: { stages: [50], hold: 20s, hold_max: 40s, on_no_data: promote } }\n",
        "{port}",
        "",
    );
    let ran = shop.world.deploy("v3").expect(10);
    shop.expect_serving("v1");
    assert_eq!(ran.json()["rollback"]["status"], "completed", "{}", ran.stderr);
    let containers = shop.containers();
    assert_eq!(containers.len(), 1, "{containers:?}");
    assert_eq!(shop.world.story()[1], "#2 deploy v3 rolled_back rejected");
}

#[test]
fn a_container_that_dies_late_in_its_place_is_taken_back() {
    let shop = Shop::new(false);
    let dying = "/bin/busybox httpd -p 8080 -h /www; until [ -e /www/full ]; do sleep 0.1; done; echo out of memory >&2; exit 9";
    let files = [("www/health", "v3"), ("www/index.html", "v3")];
    shop.engine.image(&shop.image("v3"), &files, &["/bin/sh", "-c", dying]);
    // Its ends are counted before the checks that meet it while it is down come to as many.
    let patient = "consecutive_passes: 2\n  consecutive_failures: { count: 60 }";
    let text = shop.world.read("backout.yaml").replace("consecutive_passes: 2", patient);
    let bakes = |time: &str| shop.world.write("backout.yaml", &text.replace("bake_time: 1s", time));
    // Nobody starts it again, and the engine does so without an end.
    for restart in ["\"no\"", "always"] {
        shop.compose(&WEB.replace("always", restart));
        bakes("bake_time: 1s");
        shop.world.deployed("v1");
        shop.expect_serving("v1");
        bakes("bake_time: 10m");
        let deploying = shop.world.deploying("v3");
        shop.world.wait_for_step("bake");
        shop.expect_serving("v3");
        let id = shop.containers().join(" ");
        shop.engine.expect(&["exec", &id, "/bin/busybox", "touch", "/www/full"]);
        let ran = deploying.wait().expect(10);
        assert!(ran.stderr.contains("web exited with code 9"), "{restart}: {}", ran.stderr);
        assert_eq!(ran.json()["rollback"]["status"], "completed", "{}", ran.stderr);
        shop.expect_serving("v1");
        assert_eq!(shop.containers().len(), 1);
        let story = shop.world.story();
        assert!(story[0].ends_with("rollback v1 stable"), "{story:?}");
        assert!(story[1].ends_with("deploy v3 rolled_back rejected"), "{story:?}");
        let status = shop.world.status();
        assert_eq!(
            (&status["version"], &status["operation"]),
            (&"v1".into(), &serde_json::Value::Null)
        );
    }
}

#[test]
fn a_command_that_is_killed_during_up_converges() {
    let shop = Shop::new(false);
    shop.world.deployed("v1");
    for at in ["after_intent/start:1", "after_effect/start:1"] {
        shop.world.run_killed(&["deploy", "--version", "v2", "--yes"], at);
        let ran = shop.world.run(&["recover", "--yes", "--format", "json"]);
        assert!(matches!(ran.code, Some(0 | 10)), "{:?} {}", ran.code, ran.stderr);
        let live = shop.world.status()["version"].as_str().unwrap().to_owned();
        shop.expect_serving(&live);
        shop.world.deployed("v1");
        shop.expect_serving("v1");
    }
    // And in the middle of compose's own work, which goes on without its parent.
    let mut killed = shop.world.deploying("v2");
    let end = Instant::now() + Duration::from_secs(60);
    let compose = || {
        let processes = shop.world.processes();
        processes.into_iter().find(|p| p.has("compose") && p.has("up")).map(|_| ())
    };
    while compose().is_none() && Instant::now() < end && killed.runs() {
        std::thread::sleep(Duration::from_millis(5));
    }
    killed.signal(rustix::process::Signal::KILL);
    killed.wait();
    let ran = shop.world.run(&["recover", "--yes", "--format", "json"]);
    assert!(matches!(ran.code, Some(0 | 10)), "{:?} {}", ran.code, ran.stderr);
    let live = shop.world.status()["version"].as_str().unwrap().to_owned();
    shop.expect_serving(&live);
    assert_eq!(shop.containers().len(), 1);
    assert!(compose().is_none(), "nothing of the killed command is left");
}

#[test]
fn an_image_that_was_removed_by_force_is_seen_in_status() {
    let shop = Shop::on(Arc::new(Engine::own()), true);
    shop.world.deployed("v1");
    shop.world.deployed("v2");
    shop.engine.expect(&["image", "rm", &shop.image("v1")]);
    shop.engine.expect(&["system", "prune", "--all", "--force"]);
    let status = shop.world.run(&["status", "--check", "--format", "json"]).expect(0).json();
    let readiness = &status["environments"][0]["rollback_readiness"];
    assert_eq!(readiness["ready"], false, "{readiness:#}");
    let check =
        readiness["checks"].as_array().unwrap().iter().find(|c| c["name"] == "artifact_available");
    let message = check.unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("was removed from this machine"), "{message}");
    // Going back is refused before anything changes; users stay where they are.
    let ran = shop.world.rollback(&["--force"]).expect(4);
    assert!(ran.stderr.contains("artifact_available"), "{}", ran.stderr);
    shop.expect_serving("v2");
}

#[test]
fn a_registry_that_is_gone_holds_no_way_back_up() {
    let shop = Shop::new(false);
    let mut registry = Registry::start();
    let reference = registry.reference("web");
    shop.compose(&WEB.replace("IMAGE", &reference));
    for version in ["v1", "v2"] {
        let tag = format!("{reference}:{version}");
        shop.engine.web(&tag, version);
        shop.engine.expect(&["push", "--quiet", &tag]);
    }
    shop.world.deployed("v1");
    shop.world.deployed("v2");
    registry.stop();
    shop.world.deploy("v1").expect(1).says("must be reachable");
    shop.expect_serving("v2");
    shop.world.rollback(&["--force"]).expect(0);
    shop.expect_serving("v1");
}

#[test]
fn a_daemon_that_goes_away_in_the_middle_ends_on_a_good_release() {
    let shop = Shop::on(Arc::new(Engine::own()), false);
    shop.world.deployed("v1");
    let deploying = shop.world.deploying("v2");
    wait_for("the start of v2", || {
        let operation = &shop.world.status()["operation"];
        (operation["step"] == "start" || operation["step"] == "await_ready").then_some(())
    });
    shop.engine.stop();
    shop.engine.start();
    let ran = deploying.wait();
    assert!(matches!(ran.code, Some(0 | 10)), "{:?} {}", ran.code, ran.stderr);
    let version = if ran.code == Some(0) { "v2" } else { "v1" };
    shop.expect_serving(version);
    assert_eq!(shop.world.status()["version"], version);
}

/// The folder in which an engine keeps everything, without a way to write to it.
struct WriteProtected(String);

impl WriteProtected {
    fn new(engine: &Engine) -> Self {
        let path = engine.folder().join("data").display().to_string();
        mount(&["--bind", &path, &path]);
        let this = Self(path);
        mount(&["-o", "remount,bind,ro", &this.0]);
        this
    }
}

impl Drop for WriteProtected {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", &self.0]).status();
    }
}

fn mount(args: &[&str]) {
    let output = Command::new("mount").args(args).output().unwrap();
    assert!(output.status.success(), "mount {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_disk_that_docker_cant_write_to_leaves_users_where_they_are() {
    let shop = Shop::on(Arc::new(Engine::own()), false);
    shop.engine.web(&shop.image("v3"), "v3");
    shop.world.deployed("v1");
    shop.world.deployed("v2");
    let protected = WriteProtected::new(&shop.engine);
    // A new image can't even be held: nothing was changed.
    let ran = shop.world.deploy("v3");
    assert!(ran.code == Some(1), "{:?} {}", ran.code, ran.stderr);
    assert!(ran.stderr.contains("read-only file system"), "{}", ran.stderr);
    shop.expect_serving("v2");
    assert_eq!(shop.world.status()["version"], "v2");
    // A way back can't be gone either, and says where it stands; users are not worse off.
    let ran = shop.world.rollback(&["--force"]);
    assert_eq!(ran.code, Some(12), "{}", ran.stderr);
    assert!(ran.stderr.contains("read-only file system"), "{}", ran.stderr);
    assert!(ran.stderr.contains("look at its disk"), "{}", ran.stderr);
    shop.expect_serving("v2");
    drop(protected);
    // The engine itself is left confused, and a start of it mends that.
    let ran = shop.world.run(&["retry", "--yes"]);
    if ran.code != Some(0) {
        assert!(ran.stderr.contains("restart the Docker daemon"), "{}", ran.stderr);
        shop.expect_serving("v2");
        shop.engine.stop();
        shop.engine.start();
        shop.world.run(&["retry", "--yes"]).expect(0);
    }
    shop.expect_serving("v1");
    assert_eq!(shop.world.status()["version"], "v1");
}

#[test]
fn a_container_that_may_not_write_is_taken_back_with_its_file() {
    let shop = Shop::new(false);
    let writing = "echo started > /www/state && exec /bin/busybox httpd -f -p 8080 -h /www";
    for version in ["v1", "v2"] {
        let files = [("www/health", version), ("www/index.html", version)];
        shop.engine.image(&shop.image(version), &files, &["/bin/sh", "-c", writing]);
    }
    // Its ends are counted before the checks that meet it while it is down come to as many.
    let patient = "consecutive_passes: 2\n  consecutive_failures: { count: 60 }";
    let config = shop.world.read("backout.yaml").replace("consecutive_passes: 2", patient);
    shop.world.write("backout.yaml", &config);
    shop.world.deployed("v1");
    shop.expect_serving("v1");
    shop.compose(&WEB.replace("    init: true\n", "    init: true\n    read_only: true\n"));
    let ran = shop.world.deploy("v2").expect(10);
    // It depends on the moment whether it was once seen to run between two of its ends.
    let how = ["a crash-loop", "times before its first passing check"];
    let is_told = how.iter().any(|words| ran.stderr.contains(words));
    assert!(is_told && ran.stderr.contains("web exited with code 1, "), "{}", ran.stderr);
    shop.expect_serving("v1");
    assert_eq!(shop.world.story()[1], "#2 deploy v2 rolled_back rejected");
    assert!(!shop.world.read("compose.yaml").contains("read_only"), "the old file is back");
}

#[test]
fn a_daemon_that_goes_away_at_any_step_is_waited_for() {
    let shop = Shop::on(Arc::new(Engine::own()), false);
    shop.world.deployed("v1");
    shop.world.deployed("v2");
    // On the way back, with the command at work.
    let back = shop.world.spawn(&["rollback", "--yes", "--force", "--format", "json"]);
    wait_for("the start of v1", || {
        (shop.world.status()["operation"]["step"] == "start").then_some(())
    });
    shop.engine.stop();
    shop.engine.start();
    let ran = back.wait();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    shop.expect_serving("v1");
    // And together with the command, as in a reboot, before, in and after what the engine is asked for.
    for at in ["after_intent/pin_artifacts:1", "after_intent/start:1", "after_effect/start:1"] {
        shop.world.run_killed(&["deploy", "--version", "v2", "--yes"], at);
        shop.engine.stop();
        shop.engine.start();
        let ran = shop.world.run(&["recover", "--yes", "--format", "json"]);
        assert!(matches!(ran.code, Some(0 | 1 | 10)), "{at}: {:?} {}", ran.code, ran.stderr);
        let live = shop.world.status()["version"].as_str().unwrap().to_owned();
        shop.expect_serving(&live);
        assert_eq!(shop.world.status()["operation"], serde_json::Value::Null, "{at}");
        if live == "v2" {
            shop.world.rollback(&["--force"]).expect(0);
        }
        shop.expect_serving("v1");
    }
}
