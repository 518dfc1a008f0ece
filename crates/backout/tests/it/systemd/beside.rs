//! Two instances of a template behind the proxy: blue-green, and the way back rehearsed beside what runs.

use super::Shop;
use crate::drill::{drill, startable};
use crate::support::{Service, Visitor, wait_until};

impl Shop {
    /// Behind the proxy, all users at once.
    fn blue_green() -> Self {
        let shop = Self::new(true);
        shop.bakes("1s");
        shop
    }

    fn bakes(&self, bake: &str) {
        self.configure(true, "");
        let text = self.world.read("backout.yaml");
        let all_at_once = text.lines().map(|line| match line {
            line if line.starts_with("strategy:") => "strategy: blue_green\n".to_owned(),
            line if line.starts_with("bake_time:") => format!("bake_time: {bake}\n"),
            line => format!("{line}\n"),
        });
        self.world.write("backout.yaml", &all_at_once.collect::<String>());
    }

    /// The next build, as a program of its own.
    fn build_of(&self, version: &str, flags: &str) {
        let before = format!("# the build of {version}");
        self.build(Service { before: &before, flags, ..Service::default() });
    }

    fn states(&self) -> [String; 2] {
        [self.state("a"), self.state("b")]
    }

    fn pid(&self, slot: &str) -> String {
        self.machine.property(&self.unit(slot), "MainPID")
    }
}

#[test]
fn blue_green_moves_users_at_once_and_the_old_side_waits_for_them() {
    let shop = Shop::blue_green();
    shop.world.deployed("v1");
    shop.expect_serving("v1");
    let old = shop.pid("a");
    shop.bakes("10m");
    shop.build_of("v2", "");
    let visitor = Visitor::on(shop.world.listen);
    let deploying = shop.world.deploying("v2");
    shop.world.wait_for_step("bake");
    shop.expect_serving("v2");
    assert_eq!(shop.states(), ["active", "active"], "the old side is warm");
    wait_until("the way back to be proven", || {
        let readiness = &shop.world.status()["rollback_readiness"];
        readiness["ready"] == true && readiness["checks"].to_string().contains("runs warm")
    });
    let answer = shop.world.rollback(&["--reason", "checkout fails"]).expect(0).json();
    deploying.wait().expect(10);
    assert_eq!(visitor.stop(), ["v1", "v2", "v1"], "nobody met two versions in turn");
    assert_eq!(answer["rollback_type"], "blue_green_switch");
    assert_eq!(shop.pid("a"), old, "the same process, never stopped");
    wait_until("the end of v2", || shop.states() == ["active", "inactive"]);
}

#[test]
fn a_bad_side_gets_no_users_and_the_good_one_goes_on() {
    let shop = Shop::blue_green();
    shop.world.deployed("v1");
    shop.build_of("v2", "");
    shop.world.deployed("v2");
    shop.expect_serving("v2");
    let old = shop.pid("b");
    let visitor = Visitor::on(shop.world.listen);
    shop.build_of("v3", "--health-unhealthy");
    let ran = shop.world.deploy("v3").expect(10);
    assert_eq!(ran.json()["rollback"]["status"], "completed", "{}", ran.stderr);
    assert_eq!(shop.pid("b"), old, "the same process, never stopped");
    assert_eq!(shop.states(), ["inactive", "active"]);
    assert_eq!(shop.world.story()[1], "#3 deploy v3 rolled_back rejected");
    shop.world.rollback(&["--force"]).expect(0);
    shop.expect_serving("v1");
    assert_eq!(visitor.stop(), ["v2", "v1"]);
    assert_eq!(shop.states(), ["active", "inactive"]);
}

/// What the old release needs has changed since it ran.
#[test]
fn a_way_back_that_would_fail_says_why_and_is_not_left_running() {
    let shop = Shop::new(true);
    let moved = shop.world.root().join("moved").display().to_string();
    let before = format!("test ! -e {moved} || {{ echo no such table >&2; exit 3; }}");
    shop.build(Service { before: &before, ..Service::default() });
    shop.world.deployed("v1");
    shop.build_of("v2", "");
    shop.world.deployed("v2");
    shop.expect_serving("v2");
    let live = shop.pid("b");
    std::fs::write(&moved, "").unwrap();
    let visitor = Visitor::on(shop.world.listen);
    let shown = drill(&shop.world, &[]).expect(1).json();
    assert_eq!(visitor.stop(), ["v2"]);
    assert_eq!((&shown["passed"], &shown["started_beside"]), (&false.into(), &true.into()));
    let why = shown["error_message"].as_str().unwrap();
    assert!(why.contains("ended 3 times before it was ready"), "{why}");
    assert_eq!((shop.states(), shop.pid("b")), (["inactive", "active"].map(str::to_owned), live));
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
    shop.build_of("v2", "");
    shop.world.deployed("v2");
    shop.expect_serving("v2");
    let live = shop.pid("b");
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
    assert_eq!(shop.states(), ["inactive", "active"]);
    assert_eq!(shop.pid("b"), live);
    assert_eq!(shop.world.story(), ["#2 deploy v2 stable", "#1 deploy v1 stable"]);
    assert_eq!(shop.world.row(1)["drill"]["restore_ms"], measured);
    let (check, readiness) = startable(&shop.world);
    assert_eq!(check["status"], "pass", "{check}");
    assert_eq!(readiness["drill"]["restore_ms"], measured, "{readiness:#}");
    shop.world.rollback(&["--force"]).expect(0);
    shop.expect_serving("v1");
}
