//! Some services alone, left to the controller.

use rustix::process::Signal;
use serde_json::json;

use super::{calls, deploy_alone, supervised, versions};
use crate::support::{World, wait_until};

fn order(version: &str, service: &str) -> Vec<String> {
    ["deploy", "--version", version, "--service", service, "--yes", "--detach", "--format", "json"]
        .map(str::to_owned)
        .to_vec()
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[track_caller]
fn at_rest(world: &World) -> String {
    world.wait_for_rest();
    versions(world)
}

#[test]
fn the_controller_ships_the_named_service_and_nothing_else() {
    let world = supervised();
    world.deployed("1");
    calls(&world);
    let controller = world.controller();
    let document = world.run(&words(&order("2", "api"))).expect(0).json();
    assert_eq!((&document["detached"], &document["deployment"]), (&true.into(), &2.into()));
    let row = world.wait_for_status(2, &["stable"]);
    assert_eq!((&row["services"], &row["partial"]), (&json!(["api"]), &true.into()), "{row:#}");
    assert_eq!(at_rest(&world), "api 2, db 1, web 1");
    assert_eq!(calls(&world), ["stop api 1", "start api 2"]);

    // One that fails goes back alone, by the controller as well.
    super::let_fail(&world, "web", "3");
    world.run(&words(&order("3", "web"))).expect(0);
    world.wait_for_status(3, &["rolled_back"]);
    assert_eq!(at_rest(&world), "api 2, db 1, web 1");
    let noted = calls(&world);
    assert!(noted.iter().all(|call| call.contains(" web ")), "{noted:?}");
    // What there is none of is refused before anything is ordered.
    world.run(&words(&order("4", "cache"))).expect(4).says("there is no service `cache`");
    controller.signal(Signal::TERM);
    controller.wait().expect(0);
}

/// It was mixed for what was live when it was ordered: what became live since is not undone unseen.
#[test]
fn an_order_that_others_came_before_is_not_carried_out() {
    let world = supervised();
    world.deployed("1");
    let controller = world.controller();
    controller.signal(Signal::STOP);
    let waits = world.spawn(&words(&order("2", "api")));
    wait_until("the order", || world.status()["orders"].get(0).is_some());
    deploy_alone(&world, "3", &["web"]).expect(0);
    controller.signal(Signal::CONT);
    // By the controller; or withdrawn, where that stood still for too long.
    waits.wait().expect(4);
    assert_eq!(at_rest(&world), "api 1, db 1, web 3");
    assert_eq!(world.history().len(), 2);
}
