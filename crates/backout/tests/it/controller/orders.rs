//! `deploy --detach`, and requests to a controller that works.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Service, Terminal, World, Yaml, wait_for, wait_until};

const NO_CONTROLLER: &str = "no controller runs that looks after shop/production";

#[test]
fn without_a_controller_it_is_refused() {
    let world = World::new(&Yaml::default());
    let document = world.ordered("v1").expect(4).says(NO_CONTROLLER).json();
    assert_eq!(document["exit_code"], 4);
    world
        .run(&["deploy", "--version", "v1", "--yes", "--detach"])
        .expect(4)
        .says("backout serve --headless");
    assert_eq!(world.processes().len(), 0, "nothing was started");
    // A look at the plan needs none.
    world.run(&["deploy", "--version", "v1", "--detach", "--dry-run"]).expect(0);
    // One that is gone does not count, at once.
    let controller = world.controller();
    controller.signal(rustix::process::Signal::KILL);
    controller.wait();
    world.ordered("v1").expect(4).says(NO_CONTROLLER);
    assert_eq!(world.status()["controller"], Value::Null);
}

/// Nobody takes it: whoever looks is told since when it waits.
#[test]
fn an_order_that_waits_is_shown() {
    let world = World::new(&Yaml::default());
    let controller = world.controller();
    controller.signal(rustix::process::Signal::STOP);
    let order = world.spawn(&["deploy", "--version", "v1", "--yes", "--detach"]);
    let shown = wait_for("the order", || world.status()["orders"].get(0).cloned());
    assert_eq!((&shown["version"], &shown["kind"]), (&"v1".into(), &"deploy".into()), "{shown:#}");
    assert!(shown["since"].is_string() && shown["requested_by"].is_string(), "{shown:#}");
    let text = world.run(&["status"]).expect(0).stdout;
    assert!(text.contains("deploy of v1") && text.contains("waiting for a controller"), "{text}");
    controller.signal(rustix::process::Signal::CONT);
    order.wait().expect(0);
    world.wait_for_status(1, &["stable"]);
    assert_eq!(world.status()["orders"], Value::Array(Vec::new()));
}

#[test]
fn the_controller_deploys_what_was_ordered_and_the_command_returns() {
    let world = World::new(&Yaml::long_hold().bake("1s"));
    let controller = world.controller();
    let document = world.ordered("v1").expect(0).json();
    assert_eq!((&document["detached"], &document["deployment"]), (&true.into(), &1.into()));
    assert_eq!(document["controller"], world.status()["controller"]);
    world.wait_for_status(1, &["stable"]);
    let operation = world.ordered("v2").expect(0).json()["operation"].clone();
    world.wait_for_step("hold_50");
    let status = world.status();
    assert_eq!(status["operation"]["id"], operation);
    assert_eq!(status["operation"]["holder"], status["controller"]);
    // A second one is busy as long as this one is in its stages.
    world.ordered("v3").expect(5);
    world.deploy("v3").expect(5);
    world.run(&["promote"]).expect(0);
    world.wait_for_status(2, &["stable"]);
    let row = world.row(2);
    assert_eq!(row["surface"], "cli", "{row:#}");
    assert!(controller.says("was ordered"), "{}", controller.stderr());
}

#[test]
fn a_bad_one_is_taken_back() {
    let world = World::new(&Yaml::default());
    let _controller = world.controller();
    world.ordered("v1").expect(0);
    world.wait_for_status(1, &["stable"]);
    let load = world.load();
    world.build(Service { flags: "--fail-percent 60", ..Service::default() });
    world.ordered("v2").expect(0);
    let row = world.wait_for_status(2, &["rolled_back"]);
    assert_eq!(row["rejected"], true, "{row:#}");
    world.wait_for_rest();
    load.stop();
    world.expect_serving("v1");
    // The proxy's trip may be before the one who watches.
    let row = world.row(3);
    assert!(row["surface"] == "controller" || row["surface"] == "proxy", "{row:#}");
}

#[test]
fn a_newer_order_supersedes_a_bake() {
    let world = World::new(&Yaml::blue_green().bake("10m"));
    let _controller = world.controller();
    world.ordered("v1").expect(0);
    world.wait_for_step("bake");
    world.ordered("v2").expect(0);
    wait_until("v2 to bake", || {
        let status = world.status();
        status["deployment"] == 2 && status["operation"]["step"] == "bake"
    });
    assert_eq!(world.row(1)["status"], "superseded");
    // And so does a command of somebody else.
    let deploy = world.deploying("v3");
    wait_until("v3 to bake", || world.status()["deployment"] == 3);
    assert_eq!(world.row(2)["status"], "superseded");
    deploy.signal(rustix::process::Signal::TERM);
    deploy.wait().expect(3);
    wait_until("the controller to watch it", || world.status()["operation"]["held"] == true);
    world.rollback(&["--reason", "enough"]).expect(0);
    world.expect_serving("v2");
}

#[test]
fn the_controller_does_at_once_what_it_is_asked() {
    let world = World::new(&Yaml::long_hold().bake("10m"));
    let _controller = world.controller();
    world.ordered("v1").expect(0);
    wait_until("v1 to bake", || world.status()["operation"]["step"] == "bake");
    world.ordered("v2").expect(0);
    world.wait_for_step("hold_50");
    let asked = |args: &[&str], code| {
        let began = Instant::now();
        world.run(args).expect(code);
        // A hung holder is given 15 s: this was answered by a living one.
        assert!(began.elapsed() < Duration::from_secs(12), "{args:?} took {:?}", began.elapsed());
    };
    asked(&["pause"], 0);
    assert_eq!(world.status()["operation"]["paused"], true);
    asked(&["resume"], 0);
    assert_eq!(world.status()["operation"]["paused"], false);
    asked(&["abort"], 0);
    world.wait_for_status(2, &["rolled_back"]);
    wait_until("v1 to serve", || world.status()["version"] == "v1");
    world.wait_for_rest();
    world.ordered("v3").expect(0);
    world.wait_for_step("hold_50");
    asked(&["promote", "--full"], 0);
    wait_until("v3 to bake", || world.status()["version"] == "v3");
    asked(&["rollback", "--yes", "--reason", "no"], 0);
    world.expect_serving("v1");
    assert_eq!(world.status()["operation"], Value::Null);
}

#[test]
fn secrets_that_the_controller_cannot_have_are_named() {
    let env = "artifact: app, port: auto, env: { API_KEY: '${API_KEY}' }";
    let yaml = Yaml { process: env.to_owned(), ..Yaml::default() }.extra("secrets: [API_KEY]");
    let world = World::new(&yaml);
    let order = ["deploy", "--version", "v1", "--yes", "--detach"];
    {
        let _controller = world.controller();
        let ran = world.run_with(&order, &[("API_KEY", "s3cret")]).expect(4);
        let ran = ran.says("has no value of API_KEY").says("never written to the ledger");
        assert!(!ran.stderr.contains("s3cret"));
        assert_eq!(world.history().len(), 0);
    }
    let controller = world.controller_with(&[("API_KEY", "s3cret")]);
    world
        .run_with(&order, &[("API_KEY", "other")])
        .expect(4)
        .says("has another value than you of API_KEY");
    // Whoever does not have it need not.
    world.run(&order).expect(0);
    world.wait_for_status(1, &["stable"]);
    world
        .run_with(&["deploy", "--version", "v2", "--yes", "--detach"], &[("API_KEY", "s3cret")])
        .expect(0);
    world.wait_for_status(2, &["stable"]);
    let environ = std::fs::read(format!("/proc/{}/environ", world.program_of("v2").pid)).unwrap();
    assert!(String::from_utf8_lossy(&environ).contains("API_KEY=s3cret"));
    assert!(!controller.says("s3cret"), "{}", controller.stderr());
    let stored = std::fs::read(world.state_dir().join("ledger.db")).unwrap();
    assert!(!String::from_utf8_lossy(&stored).contains("s3cret"));
}

#[test]
fn variables_of_whoever_orders_go_with_the_release() {
    let env = "artifact: app, port: auto, env: { COLOUR: '${COLOUR:-grey}' }";
    let world = World::new(&Yaml { process: env.to_owned(), ..Yaml::default() });
    let _controller = world.controller();
    world
        .run_with(&["deploy", "--version", "v1", "--yes", "--detach"], &[("COLOUR", "red")])
        .expect(0);
    world.wait_for_status(1, &["stable"]);
    let environ = std::fs::read(format!("/proc/{}/environ", world.program_of("v1").pid)).unwrap();
    assert!(String::from_utf8_lossy(&environ).contains("COLOUR=red"));
    // Rules are the file's, for the controller too.
    world.configure(&Yaml { process: env.to_owned(), ..Yaml::default() }.bake("${BAKE:-1s}"));
    let ran =
        world.run_with(&["deploy", "--version", "v2", "--yes", "--detach"], &[("BAKE", "7s")]);
    ran.expect(4).says("has read other settings");
    world.ordered("v2").expect(0);
    world.wait_for_status(2, &["stable"]);
}

#[test]
fn another_folder_is_refused() {
    let world = World::new(&Yaml::default());
    let _controller = world.controller();
    let copy = world.root().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in ["backout.yaml", "app"] {
        std::fs::copy(world.folder().join(file), copy.join(file)).unwrap();
    }
    let file = copy.join("backout.yaml");
    let file = file.to_str().unwrap();
    let args = ["deploy", "--version", "v1", "--yes", "--detach", "-f", file];
    world.run(&args).expect(4).says("reads shop/production from");
    assert_eq!(world.history().len(), 0);
}

#[test]
fn a_person_at_a_terminal_hands_over() {
    let yaml = Yaml::long_hold();
    let router = yaml.router.replace("} }", ", dead_man: 8s } }");
    let world = World::new(&Yaml { router, ..yaml });
    world.deployed("v1");
    let controller = world.controller();
    let mut terminal: Terminal = world.terminal(&["deploy", "--version", "v2", "--yes"]);
    world.wait_for_step("hold_50");
    terminal.types("\x03");
    terminal.wait_to_show("[a/K/h]");
    terminal.types("h\n");
    assert_eq!(terminal.wait().code(), Some(3), "{}", terminal.seen());
    terminal.wait_to_show("handed over to");
    let status = world.status();
    assert_eq!(status["operation"]["step"], "hold_50", "it goes on where it was: {status:#}");
    assert_eq!(status["watched_by"], status["controller"]);
    assert!(controller.says("was handed over, and is taken up"), "{}", controller.stderr());
    // Longer than the dead-man would wait if nobody renewed it.
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(world.status()["operation"]["step"], "hold_50");
    world.run(&["promote"]).expect(0);
    world.wait_for_status(2, &["stable"]);
    world.expect_serving("v2");
}
