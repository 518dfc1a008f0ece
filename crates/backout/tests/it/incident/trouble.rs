//! Whatever happens to a bundle, users are taken back and it is whole or not there.

use super::{folder, names, shown};
use crate::cases::UNHEALTHY;
use crate::faults::disk::SmallDisk;
use crate::kills::{at_each, ended_well, quick};
use crate::support::{Service, World, Yaml};

#[test]
fn a_kill_at_any_moment_leaves_a_whole_bundle_or_none() {
    let instants = [
        "before_intent/keep_evidence:1",
        "after_intent/keep_evidence:1",
        "during_effect/keep_evidence:1",
        "after_effect/keep_evidence:1",
        "before_outcome/keep_evidence:1",
    ];
    at_each(&instants, |instant| {
        let world = World::new(&quick(Yaml::blue_green()));
        world.deployed("v1");
        world.build(UNHEALTHY);
        world.run_killed(&["deploy", "--version", "v2", "--yes"], instant);
        let ran = world.run(&["recover", "--yes", "--format", "json"]);
        assert!(matches!(ran.code, Some(0 | 10)), "{ran:?}");
        assert_eq!(ended_well(&world, &["v1"]), "v1");
        let bundle = shown(&world, "#2");
        assert_eq!(names(&world), [bundle["id"].as_str().unwrap()], "nothing is left half-made");
        assert_eq!(bundle["version"], "v2");
    });
}

#[test]
fn a_full_disk_costs_the_bundle_and_nothing_else() {
    let world = World::new(&Yaml::blue_green());
    let disk = SmallDisk::new(&world);
    disk.deploy("v1").expect(0);
    disk.deploy("v2").expect(0);
    disk.fill(true);
    let ran = disk.run(&["rollback", "--force", "--yes", "--format", "json"]).expect(0);
    world.expect_serving("v1");
    let warnings = ran.json()["warnings"].to_string();
    assert!(warnings.contains("the incident bundle was not kept"), "{warnings}");
    let left = disk.run(&["inspect", "#2", "--format", "json"]).expect(0).json();
    assert_eq!(left["incident"], serde_json::Value::Null);
}

#[test]
fn a_folder_that_is_none_costs_the_bundle_and_nothing_else() {
    let world = World::new(&Yaml::blue_green().bake("0s"));
    world.deployed("v1");
    std::fs::write(folder(&world), "in the way").unwrap();
    world.build(Service { before: "echo v2", ..UNHEALTHY });
    let document = world.deploy("v2").expect(10).json();
    world.expect_serving("v1");
    let warnings = document["rollback"]["warnings"].to_string();
    assert!(warnings.contains("the incident bundle was not kept"), "{warnings}");
}
