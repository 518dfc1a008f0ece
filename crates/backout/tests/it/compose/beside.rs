//! Two sides behind the proxy: blue-green, and the way back rehearsed beside what runs.

use super::{Shop, WEB};
use crate::drill::{drill, startable};
use crate::support::{Visitor, wait_until};

impl Shop {
    /// Behind the proxy, all users at once.
    fn blue_green(bake: &str) -> Self {
        let shop = Self::new(true);
        shop.bakes(bake);
        shop
    }

    fn bakes(&self, bake: &str) {
        self.configure(
            "router: { builtin: { listen: \"127.0.0.1:LISTEN\" } }\nstrategy: blue_green\n",
            "{port}",
            "",
        );
        let text = self.world.read("backout.yaml");
        self.world
            .write("backout.yaml", &text.replace("bake_time: 1s", &format!("bake_time: {bake}")));
    }

    /// The container of a version, and since when it runs.
    fn since(&self, version: &str) -> String {
        let label = format!("label=backout.version={version}");
        let app = format!("label=backout.app={}", self.app());
        let ids = self.engine.expect(&["ps", "-q", "--filter", &app, "--filter", &label]);
        self.engine.expect(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &ids])
    }
}

#[test]
fn blue_green_moves_users_at_once_and_the_old_side_waits_for_them() {
    let shop = Shop::blue_green("1s");
    shop.world.deployed("v1");
    shop.expect_serving("v1");
    let old = shop.since("v1");
    shop.bakes("10m");
    let visitor = Visitor::on(shop.world.listen);
    let deploying = shop.world.deploying("v2");
    shop.world.wait_for_step("bake");
    shop.expect_serving("v2");
    assert_eq!(shop.containers().len(), 2, "the old side is warm");
    wait_until("the way back to be proven", || {
        let readiness = &shop.world.status()["rollback_readiness"];
        readiness["ready"] == true && readiness["checks"].to_string().contains("runs warm")
    });
    let answer = shop.world.rollback(&["--reason", "checkout fails"]).expect(0).json();
    deploying.wait().expect(10);
    assert_eq!(visitor.stop(), ["v1", "v2", "v1"], "nobody met two versions in turn");
    assert_eq!(answer["rollback_type"], "blue_green_switch");
    assert_eq!(shop.since("v1"), old, "the same container, never stopped");
    wait_until("the end of v2", || shop.containers().len() == 1);
}

#[test]
fn a_release_that_turns_bad_with_all_users_on_it_is_taken_back_at_once() {
    let shop = Shop::blue_green("1s");
    shop.engine.web(&shop.image("v3"), "v3");
    shop.world.deployed("v1");
    shop.world.deployed("v2");
    shop.expect_serving("v2");
    let old = shop.since("v2");
    shop.bakes("10m");
    let visitor = Visitor::on(shop.world.listen);
    let deploying = shop.world.deploying("v3");
    shop.world.wait_for_step("bake");
    shop.expect_serving("v3");
    let ill = shop.since("v3");
    let (id, _) = ill.split_once(' ').unwrap();
    shop.engine.expect(&["exec", id, "/bin/busybox", "rm", "/www/health"]);
    let ran = deploying.wait().expect(10);
    assert_eq!(ran.json()["rollback"]["status"], "completed", "{}", ran.stderr);
    shop.expect_serving("v2");
    assert_eq!(shop.since("v2"), old, "the same container, never stopped");
    assert_eq!(shop.world.story()[1], "#3 deploy v3 rolled_back rejected");
    assert_eq!(shop.containers().len(), 1);
    // The older one is started anew, and gets all users once it is ready.
    shop.world.rollback(&["--force"]).expect(0);
    shop.expect_serving("v1");
    assert_eq!(visitor.stop(), ["v2", "v3", "v2", "v1"]);
}

/// What the old release needs has changed since it ran.
#[test]
fn a_way_back_that_would_fail_says_why_and_is_not_left_running() {
    let shop = Shop::new(true);
    let picky = "test ! -e /data/moved || { echo no such table >&2; exit 3; }; exec /bin/busybox httpd -f -p 8080 -h /www";
    let files = [("www/health", "v1"), ("www/index.html", "v1")];
    shop.engine.image(&shop.image("v1"), &files, &["/bin/sh", "-c", picky]);
    shop.compose(&format!("{WEB}    volumes: [\"data:/data\"]\nvolumes: {{ data: {{}} }}\n"));
    shop.world.deployed("v1");
    shop.world.deployed("v2");
    shop.expect_serving("v2");
    let (containers, live) = (shop.containers(), shop.since("v2"));
    let moved = ["exec", &containers[0], "/bin/busybox", "touch", "/data/moved"];
    shop.engine.expect(&moved);
    let visitor = Visitor::on(shop.world.listen);
    let shown = drill(&shop.world, &[]).expect(1).json();
    assert_eq!(visitor.stop(), ["v2"]);
    assert_eq!((&shown["passed"], &shown["started_beside"]), (&false.into(), &true.into()));
    let why = shown["error_message"].as_str().unwrap();
    assert!(why.contains("no such table"), "{why}");
    assert_eq!((shop.containers(), shop.since("v2")), (containers, live));
    let (check, readiness) = startable(&shop.world);
    assert_eq!(
        (&check["status"], &readiness["ready"]),
        (&"error".into(), &false.into()),
        "{check}"
    );
}

#[test]
fn the_way_back_is_measured_and_nobody_notices() {
    let shop = Shop::new(true);
    shop.world.deployed("v1");
    shop.world.deployed("v2");
    shop.expect_serving("v2");
    let (containers, live) = (shop.containers(), shop.since("v2"));
    let load = shop.world.load();
    let shown = drill(&shop.world, &[]).expect(0).json();
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "{tally:?}");
    assert!(tally.served.keys().all(|version| version == "v2"), "only v2 had users: {tally:?}");
    assert_eq!((&shown["passed"], &shown["version"]), (&true.into(), &"v1".into()), "{shown:#}");
    assert_eq!(shown["started_beside"], true, "{shown:#}");
    let measured = shown["restore_ms"].as_u64().unwrap();
    assert!(measured > 0);

    // Nothing of it is left.
    assert_eq!((shop.containers(), shop.since("v2")), (containers, live));
    assert_eq!(shop.world.story(), ["#2 deploy v2 stable", "#1 deploy v1 stable"]);
    assert_eq!(shop.world.row(1)["drill"]["restore_ms"], measured);
    let (check, readiness) = startable(&shop.world);
    assert_eq!(check["status"], "pass", "{check}");
    assert_eq!(readiness["drill"]["restore_ms"], measured, "{readiness:#}");
    shop.world.rollback(&["--force"]).expect(0);
    shop.expect_serving("v1");
}
