//! Watchers that are gone, and holders that were only paused.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{can_be_seen, ended_well};
use crate::support::{World, Yaml, wait_until};

fn long_hold(dead_man: &str) -> Yaml {
    let router =
        format!(r#"{{ builtin: {{ listen: "127.0.0.1:LISTEN", dead_man: {dead_man} }} }}"#);
    Yaml { router, ..Yaml::long_hold() }
}

#[test]
fn without_a_watcher_traffic_returns_by_itself() {
    let world = World::new(&long_hold("3s"));
    world.deployed("v1");
    let load = world.load();
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    wait_until("both versions to serve", || world.serving().len() == 2);
    deploy.signal(Signal::KILL);
    deploy.wait();
    wait_until("traffic on the stable side", || world.serving().iter().all(|v| v == "v1"));
    let status = can_be_seen(&world);
    assert_eq!(
        (status["version"].as_str(), &status["operation"]["step"]),
        (Some("v1"), &"hold_50".into())
    );
    assert_eq!(world.running(), ["v1", "v2"], "what runs is left to recovery");
    let ran = world.run(&["recover", "--yes", "--format", "json"]).expect(10);
    assert_eq!(ended_well(&world, &["v1"]), "v1");
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "{tally:?}");
    let row = world.row(2);
    assert_eq!(
        (row["status"].as_str(), row["rejected"].as_bool()),
        (Some("rolled_back"), Some(false))
    );
    let back = world.row(3);
    assert_eq!(
        (&back["trigger"], &back["surface"]),
        (&"timeout".into(), &"proxy".into()),
        "{back:#}"
    );
    assert_eq!(back["rollback_type"], "automatic");
    assert!(ran.stdout.contains("timeout"), "{}", ran.stdout);
}

#[test]
fn a_paused_holder_is_waited_for_and_writes_nothing_after() {
    let world = World::new(&long_hold("5m"));
    world.deployed("v1");
    let load = world.load();
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    deploy.signal(Signal::STOP);
    let began = Instant::now();
    // Its term has not ended: it may yet go on.
    world.deploy("v3").expect(5);
    // A person's way back claims the next epoch once the term is over, and not before.
    world.rollback(&["--reason", "it does not answer"]).expect(0);
    assert!(began.elapsed() > Duration::from_secs(5), "the term was respected");
    assert_eq!(ended_well(&world, &["v1"]), "v1");
    let (story, weights) = (world.story(), world.status()["weights"].clone());
    deploy.signal(Signal::CONT);
    let ran = deploy.wait();
    assert!(matches!(ran.code, Some(3 | 10)), "{ran:?}");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(ended_well(&world, &["v1"]), "v1");
    assert_eq!((world.story(), world.status()["weights"].clone()), (story, weights));
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "{tally:?}");
    world.configure(&Yaml::default());
    world.deployed("v3");
}

#[test]
fn a_dead_supervisor_and_a_dead_proxy_are_started_again() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    for process in world.supervisors().iter().chain(&world.proxies()) {
        process.signal(Signal::KILL);
    }
    world.program_of("v1").signal(Signal::KILL);
    wait_until("nothing to run", || world.processes().is_empty());
    can_be_seen(&world);
    let document = world.run(&["recover", "--yes", "--format", "json"]).expect(0).json();
    assert_eq!(document["open"], false);
    assert_eq!(ended_well(&world, &["v1"]), "v1");
    world.deployed("v2");
}

#[test]
fn after_a_reboot_in_the_middle_of_a_stage_the_stable_release_runs_again() {
    let world = World::new(&Yaml::long_hold());
    world.deployed("v1");
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    deploy.signal(Signal::KILL);
    deploy.wait();
    world.end_all();
    let status = can_be_seen(&world);
    assert_eq!(status["operation"]["step"], "hold_50");
    world.run(&["recover", "--yes"]).expect(10);
    assert_eq!(ended_well(&world, &["v1"]), "v1");
    assert_eq!(world.row(2)["status"], "rolled_back");
    assert_eq!(world.row(2)["rejected"], false);
}
