//! SIGTERM in each phase: nothing is lost, nothing is left locked, and the next controller goes on.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Service, World, Yaml, wait_until};

/// A build that takes some seconds to start once the file `slow` exists.
const SLOW_START: Service<'static> =
    Service { flags: "", claims: None, before: "[ -e slow ] && sleep 4" };

#[test]
fn an_idle_one_leaves_at_once() {
    let world = World::new(&Yaml::default());
    for signal in [Signal::TERM, Signal::INT] {
        let controller = world.controller();
        controller.signal(signal);
        let ran = controller.wait().expect(0);
        assert!(ran.stderr.contains("the controller has left") && ran.stdout.is_empty(), "{ran:?}");
        assert_eq!(world.status()["controller"], Value::Null);
    }
}

#[test]
fn a_deploy_in_its_stages_is_handed_over_and_goes_on() {
    let world = World::new(&Yaml::long_hold());
    let controller = world.controller();
    world.ordered("v1").expect(0);
    world.wait_for_status(1, &["stable"]);
    let load = world.load();
    world.ordered("v2").expect(0);
    world.wait_for_step("hold_50");
    controller.signal(Signal::TERM);
    controller.wait().expect(0);
    let status = world.status();
    assert_eq!(
        (&status["operation"]["step"], &status["operation"]["held"]),
        (&"hold_50".into(), &false.into())
    );
    assert!(status["dead_man"]["armed"].is_object(), "traffic would return by itself: {status:#}");
    let next = world.controller();
    wait_until("the next one", || next.says("was handed over, and is taken up"));
    world.run(&["promote"]).expect(0);
    world.wait_for_status(2, &["stable"]);
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "{tally:?}");
    assert_eq!(world.story(), ["#2 deploy v2 stable", "#1 deploy v1 stable"]);
}

#[test]
fn without_a_next_one_traffic_returns_by_itself() {
    let yaml = Yaml::long_hold();
    let router = yaml.router.replace("} }", ", dead_man: 3s } }");
    let world = World::new(&Yaml { router, ..yaml });
    let controller = world.controller();
    world.ordered("v1").expect(0);
    world.wait_for_status(1, &["stable"]);
    world.ordered("v2").expect(0);
    world.wait_for_step("hold_50");
    controller.signal(Signal::TERM);
    controller.wait().expect(0);
    wait_until("the dead-man", || world.status()["dead_man"]["fired"].is_object());
    world.expect_serving("v1");
    let _next = world.controller();
    let row = world.wait_for_status(2, &["rolled_back"]);
    assert_eq!(row["rejected"], false, "{row:#}");
    world.wait_for_rest();
    assert_eq!(world.row(3)["trigger"], "timeout");
}

#[test]
fn a_bake_is_left_baking() {
    let world = World::new(&Yaml::blue_green().bake("6s"));
    let controller = world.controller();
    world.ordered("v1").expect(0);
    world.wait_for_step("bake");
    controller.signal(Signal::TERM);
    controller.wait().expect(0);
    assert_eq!(world.status()["status"], "baking");
    world.expect_serving("v1");
    let _next = world.controller();
    world.wait_for_status(1, &["stable"]);
}

#[test]
fn a_way_back_is_finished_first() {
    let world = World::new(&Yaml::recreate());
    world.build(SLOW_START);
    let controller = world.controller();
    world.ordered("v1").expect(0);
    world.wait_for_status(1, &["stable"]);
    world.write("slow", "");
    world.build(Service { flags: "--health-unhealthy", ..Service::default() });
    world.ordered("v2").expect(0);
    wait_until("the way back", || world.status()["operation"]["kind"] == "rollback");
    controller.signal(Signal::TERM);
    controller.wait().expect(0);
    assert_eq!(world.status()["operation"], Value::Null);
    world.expect_serving("v1");
    assert_eq!(world.row(2)["status"], "rolled_back");
}

#[test]
fn asked_twice_it_hands_a_way_back_over_too() {
    let world = World::new(&Yaml::recreate());
    world.build(SLOW_START);
    let controller = world.controller();
    world.ordered("v1").expect(0);
    world.wait_for_status(1, &["stable"]);
    world.write("slow", "");
    world.build(Service { flags: "--health-unhealthy", ..Service::default() });
    world.ordered("v2").expect(0);
    wait_until("the way back", || world.status()["operation"]["kind"] == "rollback");
    controller.signal(Signal::TERM);
    wait_until("the first word", || controller.says("a way back is finished"));
    controller.signal(Signal::TERM);
    controller.wait().expect(0);
    let _next = world.controller();
    world.wait_for_rest();
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
}

#[test]
fn a_paused_one_does_nothing_after_its_term() {
    let world = World::new(&Yaml::long_hold());
    let first = world.controller();
    world.ordered("v1").expect(0);
    world.wait_for_status(1, &["stable"]);
    world.ordered("v2").expect(0);
    world.wait_for_step("hold_50");
    let _second = world.controller();
    first.signal(Signal::STOP);
    // Its term ends, the dead-man with it; the second one adopts what the proxy did.
    let row = world.wait_for_status(2, &["rolled_back"]);
    assert_eq!(row["rejected"], false, "{row:#}");
    world.wait_for_rest();
    let story = world.story();
    first.signal(Signal::CONT);
    wait_until("the first one to notice", || first.says("is gone on with elsewhere"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.story(), story);
    world.expect_serving("v1");
    first.signal(Signal::TERM);
    first.wait().expect(0);
    world.ordered("v3").expect(0);
    world.wait_for_step("hold_50");
    world.run(&["promote"]).expect(0);
    world.wait_for_status(4, &["stable"]);
}
