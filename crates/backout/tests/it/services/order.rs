//! The order there and back, and all or nothing.

use super::{calls, done, let_fail, scripted, supervised, versions};

#[test]
fn a_script_is_called_in_order_and_back_in_reverse() {
    let world = scripted();
    world.deployed("1");
    assert_eq!(calls(&world), ["deploy db 1", "deploy api 1", "deploy web 1"]);
    let_fail(&world, "web", "2");
    world.deploy("2").expect(10);
    // Whatever began goes back, the last one first.
    let noted = calls(&world);
    assert_eq!(noted[..2], ["deploy db 2", "deploy api 2"]);
    assert!(noted[2..noted.len() - 3].iter().all(|call| call == "deploy web 2"), "{noted:?}");
    assert_eq!(noted[noted.len() - 3..], ["rollback web 1", "rollback api 1", "rollback db 1"]);
    assert_eq!(versions(&world), "api 1, db 1, web 1");
}

#[test]
fn what_was_not_begun_is_left_alone() {
    let world = scripted();
    world.deployed("1");
    let_fail(&world, "api", "2");
    calls(&world);
    let document = world.deploy("2").expect(10).json();
    let noted = calls(&world);
    assert_eq!(noted[0], "deploy db 2");
    assert_eq!(noted[noted.len() - 2..], ["rollback api 1", "rollback db 1"]);
    assert!(!noted.iter().any(|call| call.contains("web")), "{noted:?}");
    let health = &document["rollback"]["health"];
    assert_eq!(*health, serde_json::json!({ "api": "healthy", "db": "healthy", "web": "healthy" }));
}

#[test]
fn what_is_down_and_needed_comes_back_first() {
    let world = scripted();
    world.deployed("1");
    world.deployed("2");
    std::fs::remove_file(world.folder().join("runs-db")).unwrap();
    calls(&world);
    world.rollback(&["--force"]).expect(0);
    assert_eq!(calls(&world), ["rollback db 1", "rollback web 1", "rollback api 1"]);
}

#[test]
fn programs_stop_in_reverse_and_start_in_order() {
    let world = supervised();
    world.deployed("1");
    let_fail(&world, "web", "2");
    let document = world.deploy("2").expect(10).json();
    let there = ["stop web", "stop api", "stop db", "start db", "start api", "start web"];
    assert_eq!(done(&document), there);
    assert_eq!(done(&document["rollback"]), there);
    let noted = calls(&world);
    let stops: Vec<&String> = noted.iter().filter(|call| call.starts_with("stop")).collect();
    // Web 2 has ended by itself.
    assert_eq!(stops, ["stop web 1", "stop api 1", "stop db 1", "stop api 2", "stop db 2"]);
    for start in ["start web 1", "start api 1", "start db 1"] {
        assert_eq!(noted.iter().filter(|call| *call == start).count(), 2, "{noted:?}");
    }
    assert_eq!(versions(&world), "api 1, db 1, web 1");
}
