//! One service of a release with services from others goes back, while something else has ended stuck.

use super::{calls, deploy_alone, let_fail, scripted, versions};
use crate::support::World;

/// Live are api 2, db 1 and web 3; a deploy of everything as 4 is stuck on its way back.
fn stuck() -> World {
    let world = scripted();
    world.deployed("1");
    deploy_alone(&world, "2", &["api"]).expect(0);
    deploy_alone(&world, "3", &["web"]).expect(0);
    let_fail(&world, "web", "4");
    world.write("fail-rollback-api", "");
    world.deploy("4").expect(12);
    world
}

const BACK: &[&str] = &["--service", "api", "--force", "--override", "service_dependencies"];

#[test]
fn it_waits_for_what_is_stuck_and_says_what_to_do() {
    let world = stuck();
    calls(&world);
    let ran = world.rollback(BACK).expect(4).says("is stuck");
    for way in ["backout retry", "backout rollback", "backout resolve"] {
        assert!(ran.stderr.contains(way), "{way} in {}", ran.stderr);
    }
    assert_eq!(calls(&world), [""; 0], "nothing was begun");

    // The whole goes back first: to the release with services from three others.
    std::fs::remove_file(world.folder().join("fail-rollback-api")).unwrap();
    world.run(&["retry"]).expect(0);
    assert_eq!(versions(&world), "api 2, db 1, web 3");
    assert_eq!(world.status()["operation"], serde_json::Value::Null);
    calls(&world);
    let document = world.rollback(BACK).expect(0).json();
    assert_eq!(calls(&world), ["rollback api 1"]);
    assert_eq!(document["services"], serde_json::json!(["api"]));
    assert_eq!(versions(&world), "api 1, db 1, web 3");
}

#[test]
fn once_it_is_resolved_one_service_goes_back_over_what_was_left() {
    let world = stuck();
    std::fs::remove_file(world.folder().join("fail-rollback-api")).unwrap();
    world.run(&["resolve", "--reason", "looked at by hand", "--yes"]).expect(0);
    assert_eq!(world.status()["operation"], serde_json::Value::Null);
    let before = versions(&world);
    calls(&world);
    let ran = world.rollback(&[
        "--service",
        "api",
        "--to-revision",
        "1",
        "--force",
        "--override",
        "service_dependencies",
    ]);
    let told = format!("{before}\n{ran:?}");
    ran.expect(0);
    // What the deploy had left of db is put back beside it: nothing else stays what it is meant to be.
    assert_eq!(calls(&world), ["rollback api 1", "rollback db 1"], "{told}");
    assert_eq!(versions(&world), "api 1, db 1, web 3", "{told}");
    assert_eq!(world.read("runs-db").trim(), "1", "{told}");
    assert_eq!(world.read("runs-api").trim(), "1", "{told}");
    assert_eq!(world.status()["health"], "healthy", "{told}");
}
