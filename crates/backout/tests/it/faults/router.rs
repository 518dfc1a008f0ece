//! The long-lived processes die: the proxy, the supervisor.

use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::json;

use super::still_on_v1;
use crate::support::{World, Yaml, wait_for, wait_until};

#[track_caller]
fn kill_the_proxy(world: &World) {
    let proxies = world.proxies();
    assert_eq!(proxies.len(), 1, "{proxies:?}");
    proxies[0].signal(Signal::KILL);
    wait_until("its end", || world.proxies().iter().all(|proxy| proxy.pid != proxies[0].pid));
}

#[test]
fn a_proxy_that_dies_in_a_canary_is_started_again_by_the_watcher() {
    let world = World::new(&Yaml::long_hold());
    let yaml = Yaml { strategy: Yaml::long_hold().strategy, ..Yaml::default() };
    world.configure(&yaml);
    world.deployed("v1");
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    kill_the_proxy(&world);
    wait_until("the proxy again", || world.get("/").is_ok());
    // Its routes survived: both sides serve, and the deploy goes on.
    wait_until("both sides", || world.serving().len() == 2);
    assert_eq!(world.status()["operation"]["step"], "hold_50");
    world.run(&["promote", "--full"]).expect(0);
    let ran = deploy.wait().expect(0);
    world.expect_serving("v2");
    assert!(ran.stderr.contains("the router was gone and was started again"), "{}", ran.stderr);
    let inspected = world.run(&["inspect", "#2", "--format", "json"]).expect(0).stdout;
    assert!(inspected.contains("the router was gone"), "the record says it, too: {inspected}");
}

#[test]
fn a_proxy_that_dies_and_can_not_come_back_ends_no_stage() {
    let world = World::new(&Yaml::default());
    world.deployed("v1");
    let deploy = {
        world.configure(&Yaml::long_hold());
        world.deploying("v2")
    };
    world.wait_for_step("hold_50");
    // The watcher is made to look away, so that somebody else is quicker.
    deploy.signal(Signal::STOP);
    kill_the_proxy(&world);
    // A process that was killed gives its sockets back a moment after its words are gone.
    let taken = wait_for("its port", || TcpListener::bind(("127.0.0.1", world.listen)).ok());
    deploy.signal(Signal::CONT);
    let words = "the router is gone and users are not served";
    wait_until("the warning", || deploy.stderr().contains(words));
    assert_eq!(world.status()["operation"]["step"], "hold_50");
    drop(taken);
    wait_until("the proxy again", || world.get("/").is_ok());
    world.run(&["abort"]).expect(0);
    deploy.wait().expect(10);
    still_on_v1(&world);
}

#[test]
fn a_proxy_that_runs_and_can_not_listen_is_told() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    kill_the_proxy(&world);
    let taken = wait_for("its port", || TcpListener::bind(("127.0.0.1", world.listen)).ok());
    // As a unit of the system starts it again.
    let proxy = world.spawn(&["proxy"]);
    let words = "the router runs, but users are not served";
    wait_until("the word of it", || world.status()["warnings"].to_string().contains(words));
    let doctor = world.run(&["doctor"]);
    let said = format!("{}{}", doctor.stdout, doctor.stderr);
    assert!(said.contains("users are not served") && said.contains("in use"), "{said}");
    drop(taken);
    wait_until("users again", || world.get("/").is_ok());
    wait_until("silence", || !world.status()["warnings"].to_string().contains(words));
    drop(proxy);
}

#[test]
fn a_proxy_that_died_between_deploys_is_missed_and_started() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    world.deployed("v2");
    kill_the_proxy(&world);
    let said = world.run(&["status"]).expect(0).stdout;
    assert!(said.contains("users are not served") && said.contains("backout recover"), "{said}");
    let ran = world.run(&["recover", "--yes"]).expect(0);
    assert!(ran.stdout.contains("started again: the router"), "{}", ran.stdout);
    world.expect_serving("v2");
    // A rollback does not need `recover` first, and neither does a deploy.
    kill_the_proxy(&world);
    world.rollback(&["--force"]).expect(0);
    world.expect_serving("v1");
    kill_the_proxy(&world);
    world.deployed("v3");
    world.expect_serving("v3");
}

#[test]
fn a_proxy_that_dies_in_a_bake_is_started_again() {
    let world = World::new(&Yaml::blue_green().bake("8s"));
    let deploy = world.deploying("v1");
    world.wait_for_step("bake");
    kill_the_proxy(&world);
    let ran = deploy.wait().expect(0);
    assert!(ran.stderr.contains("the router was gone and was started again"), "{}", ran.stderr);
    still_on_v1(&world);
}

#[test]
fn a_killed_supervisor_takes_nobody_down() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    let end_supervisors = || {
        let supervisors = world.supervisors();
        assert_eq!(supervisors.len(), 1, "{supervisors:?}");
        supervisors[0].signal(Signal::KILL);
        wait_until("its end", || world.supervisors().is_empty());
    };
    end_supervisors();
    still_on_v1(&world);
    let doctor = world.run(&["doctor"]);
    let said = format!("{}{}", doctor.stdout, doctor.stderr);
    assert!(said.contains("its supervisor is gone"), "{said}");
    // `recover` starts another in its place, and users do not notice.
    let users = world.load();
    let ran = world.run(&["recover", "--yes"]).expect(0);
    assert!(ran.stdout.contains("started again: shop@local"), "{}", ran.stdout);
    let tally = users.stop();
    assert_eq!(tally.failures(), 0, "{tally:?}");
    assert_eq!(world.supervisors().len(), 1);
    still_on_v1(&world);
    let doctor = world.run(&["doctor"]);
    assert!(!doctor.stdout.contains("its supervisor is gone"), "{}", doctor.stdout);
    end_supervisors();
    // The next deploy stops what nobody supervises.
    world.deployed("v2");
    world.expect_serving("v2");
    assert_eq!(world.running(), ["v2"]);
    // Without a supervisor nobody starts the program again when it dies, except `recover`.
    end_supervisors();
    world.program_of("v2").signal(Signal::KILL);
    wait_until("its end", || world.running().is_empty());
    let ran = world.run(&["recover", "--yes"]).expect(0);
    assert!(ran.stdout.contains("started again: shop@local"), "{}", ran.stdout);
    world.expect_serving("v2");
}

#[test]
fn supervisors_that_die_in_a_canary_do_not_disturb_it() {
    let world = World::new(&Yaml::default());
    world.deployed("v1");
    world.configure(&Yaml::long_hold());
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_50");
    world.supervisors().iter().for_each(|supervisor| supervisor.signal(Signal::KILL));
    wait_until("their end", || world.supervisors().is_empty());
    assert_eq!(world.serving().len(), 2);
    // Now the new program dies, and nobody starts it again: users go back.
    world.program_of("v2").signal(Signal::KILL);
    deploy.wait().expect(10);
    still_on_v1(&world);
}

#[test]
fn after_everything_was_killed_recover_brings_it_back() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    // Supervisors first: they would start their programs again.
    for process in world.supervisors().iter().chain(&world.processes()) {
        process.signal(Signal::KILL);
    }
    wait_until("the end of it all", || world.processes().is_empty());
    let status = world.status();
    assert_eq!((&status["version"], &status["operation"]), (&json!("v1"), &json!(null)));
    assert_ne!(world.run(&["check"]).code, Some(0), "it is not healthy");
    let ran = world.run(&["recover", "--yes"]).expect(0);
    assert!(ran.stdout.contains("started again"), "{}", ran.stdout);
    still_on_v1(&world);
}
