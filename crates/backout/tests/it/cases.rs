//! Deploys and rollbacks as people run them, to their end.

use serde_json::json;

use crate::support::{Service, World, Yaml};

#[test]
fn a_good_version_goes_through_its_stages() {
    let world = World::new(&Yaml::default());
    world.deployed("v1");
    world.expect_serving("v1");
    let load = world.load();
    let ran = world.deploy("v2").expect(0);
    let tally = load.stop();
    world.expect_serving("v2");
    assert_eq!(tally.failures(), 0, "{tally:?}");
    assert!(tally.served["v1"] > 0 && tally.served["v2"] > 0, "{tally:?}");
    assert_eq!(world.story(), ["#2 deploy v2 stable", "#1 deploy v1 stable"]);
    assert_eq!(world.running(), ["v2"]);
    let document = ran.json();
    assert_eq!(document["deployment"]["status"], "stable");
    assert_eq!(document["exit_code"], 0);
    assert_eq!(document["rollback"], json!(null));
}

#[test]
fn a_version_that_fails_requests_is_taken_back() {
    let world = World::new(&Yaml::default());
    world.deployed("v1");
    world.build(Service { flags: "--fail-percent 60", ..Service::default() });
    let load = world.load();
    let ran = world.deploy("v2").expect(10);
    drop(load);
    world.expect_serving("v1");
    assert_eq!(
        world.story(),
        ["#3 rollback v1 stable", "#2 deploy v2 rolled_back rejected", "#1 deploy v1 stable"]
    );
    let document = ran.json();
    assert_eq!(document["rollback"]["status"], "completed");
    assert_eq!(world.running(), ["v1"]);
}
