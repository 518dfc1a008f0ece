//! `backout judge explain`, while it runs and afterwards.

use super::{Users, until_judged};
use crate::support::{Service, World, wait_for};

#[test]
fn a_running_rollout_and_a_failed_one_are_explained() {
    let world = World::new(&until_judged(""));
    world.run(&["judge", "explain"]).expect(1);
    world.deployed("v1");
    world.build(Service { before: ": two", ..Service::default() });
    let users = Users::everywhere(&world);
    let deploy = world.deploying("v2");
    let json = ["judge", "explain", "--format", "json"];
    let account = wait_for("an account of the canary with requests", || {
        let ran = world.run(&json);
        let account = (ran.code == Some(0)).then(|| ran.json())?;
        let requests = account["canary"]["requests"].as_u64()?;
        (account["deployment"] == 2 && requests > 20 && account["errors_to_fail"].is_u64())
            .then_some(account)
    });
    let weights: f64 = account["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["weight"].as_f64().unwrap())
        .sum();
    assert!((weights - 1.0).abs() < 1e-9, "the budget is spent once: {account:#}");
    assert_eq!(account["baseline"], "v1");
    let said = world.run(&["judge", "explain", "2"]).expect(0).stdout;
    for words in [
        "v2 (#2) beside v1: ",
        "It would fail with ",
        "errors by route",
        "% of users go to the new side",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    world.run(&["abort", "--yes"]).expect(0);
    deploy.wait().expect(10);

    world.build(Service { flags: "--fail-percent 60", ..Service::default() });
    world.deploy("v4").expect(10);
    drop(users);
    let failed = wait_for("the account of what failed", || {
        let ran = world.run(&["judge", "explain", "4", "--svg", "why.svg"]);
        (ran.code == Some(0) && ran.stdout.contains("failing")).then_some(ran.stdout)
    });
    assert!(failed.contains("It has failed") && failed.contains("canary errors"), "{failed}");
    let svg = world.read("why.svg");
    assert!(svg.starts_with("<svg") && svg.contains("v4 (#4): failing"), "{svg}");
    world.run(&["judge", "explain", "1"]).expect(0);
    world.run(&["judge", "explain", "99"]).expect(1).says("no deployment #99");
}
