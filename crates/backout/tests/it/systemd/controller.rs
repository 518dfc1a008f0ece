//! The unit that `serve --print-unit` prints, under the systemd that it is written for.

use serde_json::Value;

use super::Shop;
use crate::support::wait_for;

const UNIT: &str = "backout-under-test.service";

/// A command on the machine that has the unit: leases look at processes, which are other ones outside.
fn inside(shop: &Shop, args: &[&str]) -> Value {
    let world = &shop.world;
    let mut command = shop.machine.inside("env");
    let home = format!("HOME={}", world.root().join("home").display());
    command.args(["-i", "PATH=/usr/bin:/bin", &home]).arg(world.program());
    command.arg("--state-dir").arg(world.state_dir());
    command.arg("-f").arg(world.folder().join("backout.yaml")).args(args);
    let output = command.args(["--format", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_printed_unit_starts_is_started_again_and_leaves_in_good_order() {
    let shop = Shop::new(false);
    let (world, machine) = (&shop.world, &shop.machine);
    // Nothing has to be said of where the manager is.
    let seen_from_here = format!(", root: {}", machine.root().display());
    let config = world.read("backout.yaml");
    assert!(config.contains(&seen_from_here));
    world.write("backout.yaml", &config.replace(&seen_from_here, ""));
    let unit = world.run(&["serve", "--print-unit", "-f", "backout.yaml"]).expect(0).stdout;
    machine.install(UNIT, &unit);
    let state = |name: &str| machine.property(UNIT, name);
    machine.expect(&["start", UNIT]);
    // `start` returns for Type=notify once the controller has said that it is ready.
    assert_eq!((state("ActiveState"), state("SubState")), ("active".into(), "running".into()));
    let text = state("StatusText");
    assert!(text.contains("looks after 1 environment"), "{text}");
    // It does its work there: an ordered deploy becomes stable.
    inside(&shop, &["deploy", "--version", "v1", "--yes", "--detach"]);
    wait_for("the ordered deploy", || {
        (inside(&shop, &["history"])[0]["status"] == "stable").then_some(())
    });
    shop.expect_serving("v1");

    let first = state("MainPID");
    machine.expect(&["kill", "--signal=KILL", "--kill-who=main", UNIT]);
    wait_for("the next controller", || {
        let again = state("ActiveState") == "active" && state("NRestarts") == "1";
        (again && state("MainPID") != first).then_some(())
    });
    shop.expect_serving("v1");
    wait_for("its sign of life", || {
        let status = inside(&shop, &["status"]);
        (status["environments"][0]["controller"] != Value::Null).then_some(())
    });
    machine.expect(&["stop", UNIT]);
    assert_eq!((state("ActiveState"), state("Result")), ("inactive".into(), "success".into()));
    assert_eq!(state("ExecMainStatus"), "0", "SIGTERM is a clean stop");
    // What it has started outlives it.
    shop.expect_serving("v1");
    assert_eq!(inside(&shop, &["status"])["environments"][0]["controller"], Value::Null);
    let said = machine.inside("journalctl").args(["--unit", UNIT]).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("the controller has left"), "{said}");
    inside(&shop, &["down", "--yes"]);
    std::fs::remove_file(machine.units().join(UNIT)).unwrap();
}
