//! Signals, Ctrl-C and closed terminals at each phase.

use rustix::process::Signal;

use crate::support::{Service, Terminal, World, Yaml, wait_until};

const NEVER_READY: Service<'static> = Service { flags: "--never-ready", claims: None, before: "" };
/// A build that takes some seconds to start once the file `slow` exists.
const SLOW_START: Service<'static> =
    Service { flags: "", claims: None, before: "[ -e slow ] && sleep 4" };

#[track_caller]
fn world(yaml: &Yaml) -> World {
    let world = World::new(&Yaml::default());
    world.deployed("v1");
    world.configure(yaml);
    world
}

/// What must hold after v2 was taken back without a verdict against it.
#[track_caller]
fn taken_back(world: &World) {
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    assert_eq!(
        world.story(),
        ["#3 rollback v1 stable", "#2 deploy v2 rolled_back", "#1 deploy v1 stable"]
    );
    assert_eq!(world.row(3)["trigger"], "manual");
}

/// What must hold while nobody watches the bake of v2.
#[track_caller]
fn bakes_unwatched(world: &World) {
    let status = world.status();
    assert_eq!(
        (status["status"].as_str(), status["deployment"].as_u64()),
        (Some("baking"), Some(2))
    );
    assert_eq!(status["watched_by"], serde_json::Value::Null);
    assert_eq!(status["operation"]["step"], "bake");
    world.expect_serving("v2");
    assert_eq!(world.running(), ["v1", "v2"]);
}

#[test]
fn a_signal_before_the_new_side_is_ready_takes_it_back() {
    let world = world(&Yaml { health: "  startup_failures: 9\n".to_owned(), ..Yaml::default() });
    world.build(NEVER_READY);
    let deploy = world.deploying("v2");
    world.wait_for_step("await_ready");
    deploy.signal(Signal::TERM);
    deploy.wait().expect(10);
    taken_back(&world);
}

#[test]
fn a_signal_during_a_stage_takes_it_back() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let world = world(&Yaml::long_hold());
        let load = world.load();
        let deploy = world.deploying("v2");
        world.wait_for_step("hold_50");
        deploy.signal(signal);
        deploy.wait().expect(10);
        let tally = load.stop();
        assert_eq!(tally.failures(), 0, "{tally:?}");
        taken_back(&world);
    }
}

#[test]
fn a_signal_during_the_bake_stops_watching_and_recover_goes_on() {
    let world = world(&Yaml::blue_green().bake("5s"));
    let deploy = world.deploying("v2");
    world.wait_for_step("bake");
    deploy.signal(Signal::TERM);
    let ran = deploy.wait().expect(3);
    assert_eq!(ran.json()["exit_code"], 3);
    bakes_unwatched(&world);
    world.run(&["recover", "--yes"]).expect(0);
    assert_eq!(world.story()[0], "#2 deploy v2 stable");
    assert_eq!(world.running(), ["v2"]);
}

#[test]
fn an_unwatched_bake_whose_time_is_over_is_finished_by_the_next_deploy() {
    let world = world(&Yaml::blue_green().bake("3s"));
    let deploy = world.deploying("v2");
    world.wait_for_step("bake");
    deploy.signal(Signal::HUP);
    deploy.wait().expect(3);
    std::thread::sleep(std::time::Duration::from_secs(3));
    world.deployed("v3");
    assert_eq!(
        world.story(),
        ["#3 deploy v3 stable", "#2 deploy v2 stable", "#1 deploy v1 stable"]
    );
    let warnings = world.row(2)["warnings"].to_string();
    assert!(warnings.contains("bake unwatched"), "{warnings}");
    // It counts as good from then on.
    world.rollback(&["--force"]).expect(0);
    world.expect_serving("v2");
}

#[test]
fn an_unwatched_bake_is_taken_back_by_a_rollback() {
    let world = world(&Yaml::blue_green().bake("10m"));
    let deploy = world.deploying("v2");
    world.wait_for_step("bake");
    deploy.signal(Signal::TERM);
    deploy.wait().expect(3);
    world.rollback(&["--reason", "it is slow"]).expect(0);
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
}

#[test]
fn a_signal_does_not_stop_a_rollback() {
    let world = World::new(&Yaml::blue_green());
    world.build(SLOW_START);
    world.deployed("v1");
    world.build(Service::default());
    world.deployed("v2");
    world.write("slow", "");
    let rollback = world.spawn(&["rollback", "--force", "--yes"]);
    wait_until("the rollback", || world.status()["operation"]["kind"] == "rollback");
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        rollback.signal(signal);
    }
    rollback.wait().expect(0);
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
}

#[test]
fn a_signal_does_not_stop_an_automatic_rollback() {
    let world = World::new(&Yaml::recreate());
    world.build(SLOW_START);
    world.deployed("v1");
    world.write("slow", "");
    world.build(Service { flags: "--health-unhealthy", ..Service::default() });
    let deploy = world.deploying("v2");
    wait_until("the rollback", || world.status()["operation"]["kind"] == "rollback");
    deploy.signal(Signal::TERM);
    deploy.wait().expect(10);
    world.expect_serving("v1");
}

fn deploy_on_terminal(world: &World) -> Terminal {
    let mut terminal = world.terminal(&["deploy", "--version", "v2"]);
    terminal.wait_to_show("[y/N]");
    terminal.types("y\n");
    terminal
}

#[test]
fn ctrl_c_at_a_terminal_asks() {
    let world = world(&Yaml::long_hold());
    let mut terminal = deploy_on_terminal(&world);
    world.wait_for_step("hold_50");
    terminal.types("\x03");
    terminal.wait_to_show("[a/K]");
    terminal.types("k\n");
    // It is still watched: the one who watches answers a request.
    world.run(&["pause"]).expect(0);
    terminal.types("\x03");
    wait_until("the second question", || terminal.seen().matches("[a/K]").count() == 2);
    terminal.types("a\n");
    assert_eq!(terminal.wait().code(), Some(10), "{}", terminal.seen());
    taken_back(&world);
}

#[test]
fn nothing_is_drawn_over_the_question() {
    let world = world(&Yaml::long_hold());
    let mut terminal = deploy_on_terminal(&world);
    world.wait_for_step("hold_50");
    terminal.types("\x03");
    terminal.wait_to_show("[a/K]");
    // Whoever answers these has looked at the watch again since the question, and would have drawn it.
    world.run(&["pause"]).expect(0);
    world.run(&["resume"]).expect(0);
    let seen = terminal.seen();
    let (_, after) = seen.split_once("[a/K]").unwrap();
    assert!(!after.contains("hold_50") && !after.contains("\x1b[2K"), "{after:?}");
    // Pressed again it is shown again, and is still one question: one answer ends it.
    terminal.types("\x03");
    wait_until("it to be shown again", || terminal.seen().matches("[a/K]").count() == 2);
    terminal.types("a\n");
    assert_eq!(terminal.wait().code(), Some(10), "{}", terminal.seen());
    assert_eq!(terminal.seen().matches("[a/K]").count(), 2, "{}", terminal.seen());
    taken_back(&world);
}

#[test]
fn a_no_at_the_prompt_changes_nothing() {
    let world = world(&Yaml::default());
    let mut terminal = world.terminal(&["deploy", "--version", "v2"]);
    terminal.wait_to_show("[y/N]");
    let plan = terminal.seen();
    assert!(plan.contains("pin_artifacts") && plan.contains("100 % to slot b"), "{plan}");
    assert!(plan.lines().all(|line| line.chars().count() <= 80), "{plan}");
    terminal.types("n\n");
    assert_eq!(terminal.wait().code(), Some(4), "{}", terminal.seen());
    assert_eq!(world.history().len(), 1);
    world.expect_serving("v1");
}

#[test]
fn a_yes_at_the_prompt_confirms_to_roll_a_healthy_release_back() {
    let world = world(&Yaml::blue_green());
    world.deployed("v2");
    let mut terminal = world.terminal(&["rollback"]);
    terminal.wait_to_show("[y/N]");
    assert!(terminal.seen().contains("already_healthy"), "{}", terminal.seen());
    terminal.types("y\n");
    assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.seen());
    world.expect_serving("v1");
    assert_eq!(world.row(3)["forced"], true);
}

#[test]
fn closing_the_terminal_before_the_new_side_is_ready_takes_it_back() {
    let world = world(&Yaml { health: "  startup_failures: 9\n".to_owned(), ..Yaml::default() });
    world.build(NEVER_READY);
    let mut terminal = deploy_on_terminal(&world);
    world.wait_for_step("await_ready");
    terminal.close();
    assert_eq!(terminal.wait().code(), Some(10));
    taken_back(&world);
}

#[test]
fn closing_the_terminal_during_a_stage_takes_it_back() {
    let world = world(&Yaml::long_hold());
    let mut terminal = deploy_on_terminal(&world);
    world.wait_for_step("hold_50");
    terminal.close();
    assert_eq!(terminal.wait().code(), Some(10));
    taken_back(&world);
}

#[test]
fn closing_the_terminal_during_the_bake_leaves_it_baking() {
    let world = world(&Yaml::blue_green().bake("10m"));
    let mut terminal = deploy_on_terminal(&world);
    world.wait_for_step("bake");
    terminal.close();
    assert_eq!(terminal.wait().code(), Some(3));
    bakes_unwatched(&world);
}

#[test]
fn closing_the_terminal_during_a_rollback_finishes_it() {
    let world = World::new(&Yaml::blue_green());
    world.build(SLOW_START);
    world.deployed("v1");
    world.build(Service::default());
    world.deployed("v2");
    world.write("slow", "");
    let mut terminal = world.terminal(&["rollback"]);
    terminal.wait_to_show("[y/N]");
    terminal.types("y\n");
    wait_until("the rollback", || world.status()["operation"]["kind"] == "rollback");
    terminal.close();
    assert_eq!(terminal.wait().code(), Some(0));
    world.expect_serving("v1");
}
