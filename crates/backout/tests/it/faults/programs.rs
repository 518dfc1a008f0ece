//! Programs that misbehave as processes.

use super::{nothing_runs, still_on_v1};
use crate::support::{Service, World, Yaml, wait_until};

const STARTUP: &str = "  startup_failures: 2\n";

fn impatient() -> Yaml {
    let yaml = Yaml::blue_green();
    Yaml { health: STARTUP.to_owned(), ..yaml }
}

#[test]
fn a_first_program_that_exits_at_once_is_removed_again() {
    let world = World::new(&impatient());
    world.build(Service { before: "exit 7", ..Service::default() });
    world.deploy("v1").expect(1).says("code 7");
    nothing_runs(&world);
    assert!(world.supervisors().is_empty());
    assert_eq!(world.row(1)["status"], "failed");
    world.build(Service::default());
    world.deployed("v2");
}

#[test]
fn a_program_that_never_gets_ready_is_taken_back_in_time() {
    let world = World::new(&impatient());
    world.deployed("v1");
    let yaml = world.read("backout.yaml").replace("startup_timeout: 40s", "startup_timeout: 1s");
    world.write("backout.yaml", &yaml);
    world.build(Service { flags: "--never-ready", ..Service::default() });
    world.deploy("v2").expect(10).says("503");
    still_on_v1(&world);
    assert_eq!(world.row(3)["trigger"], "startup_failure");
    // Nobody listens at all.
    world.build(Service { before: "exec sleep 600", ..Service::default() });
    world.deploy("v3").expect(10);
    still_on_v1(&world);
    assert!(!world.processes().iter().any(|process| process.has("600")));
}

#[test]
fn a_program_that_ignores_sigterm_is_killed_after_its_grace() {
    let world = World::new(&Yaml::blue_green());
    world.build(Service { flags: "--ignore-sigterm", ..Service::default() });
    world.deployed("v1");
    world.build(Service::default());
    world.deployed("v2");
    world.expect_serving("v2");
    assert_eq!(world.running(), ["v2"], "v1 is gone although it ignores SIGTERM");
}

#[test]
fn children_of_a_program_go_with_it() {
    let world = World::new(&Yaml::blue_green());
    // A session of its own, deaf to SIGTERM, and nobody waits for it.
    let daemon = format!(
        "setsid {} demo-service --version daemon --port 0 --ignore-sigterm &",
        world.program().display()
    );
    world.build(Service { before: &daemon, ..Service::default() });
    world.deployed("v1");
    assert_eq!(world.running(), ["daemon", "v1"]);
    world.build(Service::default());
    world.deployed("v2");
    world.expect_serving("v2");
    wait_until("the end of what v1 left behind", || world.running() == ["v2"]);
    world.run(&["down", "--yes"]).expect(0);
    wait_until("the end of everything", || world.processes().is_empty());
}

#[test]
fn a_program_that_is_no_program_is_said_so() {
    let world = World::new(&impatient());
    world.deployed("v1");
    world.write("app", "\u{7f}ELF but not really");
    let ran = world.deploy("v2");
    assert!(matches!(ran.code, Some(1 | 4 | 10)), "{ran:?}");
    still_on_v1(&world);
    std::fs::remove_file(world.folder().join("app")).unwrap();
    let ran = world.deploy("v3").says("app");
    assert!(matches!(ran.code, Some(1 | 2 | 4)), "{ran:?}");
    still_on_v1(&world);
}
