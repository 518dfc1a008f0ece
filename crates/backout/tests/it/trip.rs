//! The proxy takes a bad release out by itself, whatever became of those who watch, and it is adopted later.

use rustix::process::Signal;
use serde_json::Value;

use crate::faults::disk::SmallDisk;
use crate::support::{Background, Ran, Service, World, Yaml, wait_for, wait_until};

/// Failures that users may meet: what it takes to be sure, and what is in flight.
const FEW: u64 = 15;

/// A stage at 20 % that ends only by a request, behind a dead-man that does not fire meanwhile.
fn long_stage() -> Yaml {
    Yaml {
        router: r#"{ builtin: { listen: "127.0.0.1:LISTEN", dead_man: 10m } }"#.to_owned(),
        strategy: "{ canary: { stages: [20], hold: 10m, hold_max: 20m } }".to_owned(),
        ..Yaml::default()
    }
}

/// v1 is live; the next build passes its checks and fails every request of a user.
fn bad_build_next() -> World {
    let world = World::new(&long_stage());
    world.deployed("v1");
    world.build(Service { flags: "--fail-percent 100", ..Service::default() });
    world
}

/// The same with v2 in its stage.
fn bad_release_in_its_stage() -> (World, Background) {
    let world = bad_build_next();
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_20");
    (world, deploy)
}

fn killed(deploy: Background) {
    deploy.signal(Signal::KILL);
    deploy.wait();
}

/// Users come until all of them are on v1 again.
fn users_until_tripped(world: &World) -> u64 {
    let load = world.load();
    wait_until("the trip", || world.status()["trip"]["fired"]["moved"] == true);
    let before = load.stop();
    assert!(before.failures() >= 3, "{before:?}");
    // From here on nobody meets v2 any more.
    world.expect_serving("v1");
    before.failures()
}

/// The release was taken back for its errors, by whoever of proxy and watcher saw them first.
fn taken_back(world: &World) -> Value {
    let row = world.row(2);
    assert_eq!((row["status"].as_str(), &row["rejected"]), (Some("rolled_back"), &true.into()));
    let back = world.row(3);
    assert_eq!(
        (back["trigger"].as_str(), back["rollback_type"].as_str()),
        (Some("analysis"), Some("automatic")),
        "{back:#}"
    );
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    assert_eq!(world.status()["operation"], Value::Null);
    back
}

/// What stands in the record of a trip that was adopted.
fn adopted(world: &World, ran: &Ran) {
    let back = taken_back(world);
    assert_eq!(back["surface"], "proxy", "{back:#}");
    let json = ran.json();
    let rollback = if json["rollback"].is_object() { &json["rollback"] } else { &json };
    let evidence = rollback["evidence"].as_array().unwrap();
    let words = evidence[0].as_str().unwrap();
    assert!(words.starts_with("canary errors 100.0 % of "), "{evidence:?}");
    assert!(evidence[1].as_str().unwrap().contains("the proxy's trip fired at"), "{evidence:?}");
}

#[test]
fn with_a_watcher_it_is_taken_back_at_once() {
    let (world, deploy) = bad_release_in_its_stage();
    let load = world.load();
    deploy.wait().expect(10);
    let tally = load.stop();
    assert!(tally.failures() <= FEW, "{tally:?}");
    taken_back(&world);
    // The repair comes at once, and nothing of what the bad one did is held against it.
    world.configure(&Yaml::default());
    world.build(Service::default());
    let load = world.load();
    world.deployed("v3");
    assert_eq!(load.stop().failures(), 0);
    world.expect_serving("v3");
}

#[test]
fn without_a_watcher_the_proxy_acts_and_recover_adopts_it() {
    let (world, deploy) = bad_release_in_its_stage();
    killed(deploy);
    let failed = users_until_tripped(&world);
    assert!(failed <= FEW, "{failed}");
    let status = world.status();
    let ways = status["operation"]["continue"][0]["what"].as_str().unwrap();
    assert_eq!(ways, "adopts what the router did and goes back to #1 v1");
    let warnings = status["warnings"].to_string();
    assert!(
        warnings.contains("the trip fired") && warnings.contains("canary errors"),
        "{warnings}"
    );
    let ran = world.run(&["recover", "--yes", "--format", "json"]).expect(10);
    adopted(&world, &ran);
}

#[test]
fn killed_right_after_arming_nothing_is_missed() {
    let world = bad_build_next();
    let deploy = ["deploy", "--version", "v2", "--yes"];
    world.run_killed(&deploy, "after_effect/shift_traffic:1");
    assert!(world.status()["trip"]["armed"].is_object(), "no split stands without it");
    users_until_tripped(&world);
    let ran = world.run(&["recover", "--yes", "--format", "json"]).expect(10);
    adopted(&world, &ran);
}

#[test]
fn killed_right_before_arming_users_meet_nothing_until_it_is_armed() {
    let world = bad_build_next();
    let load = world.load();
    let deploy = ["deploy", "--version", "v2", "--yes"];
    world.run_killed(&deploy, "after_intent/shift_traffic:1");
    world.expect_serving("v1");
    // The new side passes its checks, so that it goes forward, and is taken out by the first users.
    world.run(&["recover", "--yes", "--format", "json"]).expect(10);
    let tally = load.stop();
    assert!((3..=FEW).contains(&tally.failures()), "{tally:?}");
    taken_back(&world);
}

#[test]
fn a_watcher_that_is_stopped_past_its_lease_writes_nothing_after() {
    let (world, deploy) = bad_release_in_its_stage();
    deploy.signal(Signal::STOP);
    users_until_tripped(&world);
    // Its term ends, and whoever comes next adopts.
    let ran = wait_for("the end of its term", || {
        let ran = world.run(&["recover", "--yes", "--format", "json"]);
        if ran.stderr.contains("stays locked by pid") {
            // It was stopped in the very moment in which it wrote; nobody but itself can end that.
            deploy.signal(Signal::CONT);
            deploy.signal(Signal::STOP);
        }
        (!matches!(ran.code, Some(1 | 5))).then_some(ran)
    });
    let ran = ran.expect(10);
    adopted(&world, &ran);
    let story = world.story();
    deploy.signal(Signal::CONT);
    let late = deploy.wait();
    assert!(matches!(late.code, Some(3 | 10)), "{late:?}");
    assert_eq!(world.story(), story);
    adopted(&world, &ran);
}

#[test]
fn a_request_to_go_on_that_comes_with_the_trip_changes_nothing() {
    let (world, deploy) = bad_release_in_its_stage();
    deploy.signal(Signal::STOP);
    let promote = world.spawn(&["promote", "--full"]);
    // Time for the request to be made; should it come later, what must hold is the same.
    std::thread::sleep(std::time::Duration::from_secs(1));
    users_until_tripped(&world);
    deploy.signal(Signal::CONT);
    let ran = deploy.wait().expect(10);
    drop(promote);
    adopted(&world, &ran);
}

#[test]
fn a_proxy_that_dies_comes_back_with_what_it_had_done() {
    // Killed after it was written down, and killed before: then it is found out once more.
    for durable in [true, false] {
        let (world, deploy) = bad_release_in_its_stage();
        killed(deploy);
        let routes = world.state_dir().join("proxy/routes.json");
        let before = std::fs::read(&routes).unwrap();
        users_until_tripped(&world);
        wait_until("what it wrote", || {
            String::from_utf8_lossy(&std::fs::read(&routes).unwrap()).contains("\"evidence\"")
        });
        let proxy = world.proxies()[0].clone();
        proxy.signal(Signal::KILL);
        wait_until("its end", || world.proxies().iter().all(|other| other.pid != proxy.pid));
        if !durable {
            std::fs::write(&routes, &before).unwrap();
        }
        let load = world.load();
        let ran = world.run(&["recover", "--yes", "--format", "json"]).expect(10);
        load.stop();
        match durable {
            true => adopted(&world, &ran),
            // Found out anew, by the trip or by the watch that goes on.
            false => drop(taken_back(&world)),
        }
    }
}

#[test]
fn with_both_sides_bad_nothing_moves_and_that_is_said() {
    let world = World::bare();
    world.configure(&long_stage());
    // Started again, v1 does not feel well: that is what its file says.
    let sick = world.root().join("sick");
    let before = format!("SICK=; if [ -e {} ]; then SICK=--never-ready; fi", sick.display());
    world.build(Service { before: &before, flags: "$SICK", ..Service::default() });
    world.deployed("v1");
    world.build(Service { flags: "--fail-percent 100", ..Service::default() });
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_20");
    killed(deploy);
    std::fs::write(&sick, "").unwrap();
    let old = world.program_of("v1");
    old.signal(Signal::KILL);
    wait_until("v1 again", || world.processes().iter().all(|process| process.pid != old.pid));
    wait_until("its answers", || world.serving().contains("v1"));
    let load = world.load();
    wait_until("the trip", || world.status()["trip"]["fired"]["moved"] == false);
    let tally = load.stop();
    assert!(tally.served.contains_key("v1"), "{tally:?}");
    let status = world.status();
    let percents: Vec<u64> = status["weights"]
        .as_array()
        .unwrap()
        .iter()
        .map(|weight| weight["percent"].as_u64().unwrap())
        .collect();
    assert!(percents.contains(&20), "nothing moved: {status:#}");
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("held traffic where it was"), "{warnings}");
    // Well again, it is gone back to.
    std::fs::remove_file(&sick).unwrap();
    world.program_of("v1").signal(Signal::KILL);
    let ran = world.run(&["recover", "--yes"]).expect(10);
    assert!(ran.stderr.contains("v1") || ran.stdout.contains("v1"));
    assert_eq!(world.row(2)["rejected"], true);
    wait_until("v1 alone", || world.serving().iter().eq(["v1"]));
}

#[test]
fn on_a_full_disk_users_are_saved_first_and_the_record_comes_later() {
    let world = World::new(&long_stage());
    let disk = SmallDisk::new(&world);
    disk.deploy("v1").expect(0);
    world.build(Service { flags: "--fail-percent 100", ..Service::default() });
    let deploy = disk.spawn(&["deploy", "--version", "v2", "--yes"]);
    disk.wait_for_step("hold_20");
    killed(deploy);
    disk.fill(true);
    let load = world.load();
    wait_until("users on v1 alone", || {
        world.serving().iter().eq(["v1"]) && {
            let fired = disk.status()["trip"]["fired"].clone();
            fired["moved"] == true
        }
    });
    let tally = load.stop();
    assert!(tally.failures() <= FEW, "{tally:?}");
    disk.fill(false);
    disk.run(&["recover", "--yes"]).expect(10);
    assert_eq!(world.running(), ["v1"]);
    world.expect_serving("v1");
}
