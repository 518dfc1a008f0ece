//! Several controllers and commands at once on one ledger, and a ledger that can't be written for a while.

use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::kills::{ended_well, quick};
use crate::support::{World, Yaml, wait_until};

#[test]
fn two_of_them_do_everything_once() {
    do_everything_once(&World::new(&quick(Yaml::default())));
}

/// Two controllers on the ledger of this world, of which the one that leads is killed in a stage.
pub fn do_everything_once(world: &World) {
    let controllers = [world.controller(), world.controller()];
    for version in ["v1", "v2", "v3"] {
        world.ordered(version).expect(0);
        world.wait_for_rest();
    }
    // The one that leads is killed in the middle, and the other goes on.
    world.configure(&Yaml::long_hold());
    world.ordered("v4").expect(0);
    world.wait_for_step("hold_50");
    let holder = world.status()["operation"]["holder"].as_str().unwrap().to_owned();
    let [first, second] = controllers;
    let (killed, other) = if holder.ends_with(&format!(":{}", first.pid())) {
        (first, second)
    } else {
        (second, first)
    };
    killed.signal(Signal::KILL);
    let killed = killed.wait();
    wait_until("the other one", || other.says("is taken up"));
    world.run(&["promote"]).expect(0);
    world.wait_for_status(4, &["stable"]);
    assert_eq!(ended_well(world, &["v4"]), "v4");
    let story = [
        "#4 deploy v4 stable",
        "#3 deploy v3 stable",
        "#2 deploy v2 stable",
        "#1 deploy v1 stable",
    ];
    assert_eq!(world.story(), story);
    let ordered = |log: &str| log.lines().filter(|line| line.contains("was ordered")).count();
    assert_eq!(ordered(&killed.stderr) + ordered(&other.stderr()), 4, "each order was taken once");
    for log in [killed.stderr, other.stderr()] {
        assert!(!log.contains("is refused") && !log.contains("\"ERROR\""), "{log}");
    }
}

#[test]
fn a_controller_and_two_commands_race() {
    let world = World::new(&quick(Yaml::default()));
    let controller = world.controller();
    world.ordered("v1").expect(0);
    world.wait_for_rest();
    for round in 0..3 {
        let version = |name: &str| format!("{name}{round}");
        let (a, b, c) = (version("a"), version("b"), version("c"));
        let mut all = [
            (&a, Some(world.spawn(&["deploy", "--version", &a, "--yes"]))),
            (&b, Some(world.spawn(&["deploy", "--version", &b, "--yes"]))),
            (&c, Some(world.spawn(&["deploy", "--version", &c, "--yes", "--detach"]))),
        ];
        let ended: Vec<(&str, i32)> = all
            .iter_mut()
            .map(|(version, command)| {
                (version.as_str(), command.take().unwrap().wait().code.unwrap())
            })
            .collect();
        world.wait_for_rest();
        // Done, superseded while it baked, busy: nothing else.
        assert!(ended.iter().all(|(_, code)| [0, 3, 5].contains(code)), "{ended:?}");
        assert!(ended.iter().any(|(_, code)| *code == 0), "{ended:?}");
        let versions: Vec<&str> = ended.iter().map(|(version, _)| *version).collect();
        ended_well(&world, &versions);
    }
    let bad = |row: &String| row.contains("failed") || row.contains("rolled_back");
    assert!(!world.story().iter().any(bad), "{:?}", world.story());
    assert!(!controller.says("panicked"), "{}", controller.stderr());
}

/// Nobody else can write the ledger while this lives.
struct Locked(Child);

impl Locked {
    fn new(world: &World) -> Self {
        let script = "import sqlite3, sys\n\
            c = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n\
            c.execute('BEGIN IMMEDIATE')\n\
            print('locked', flush=True)\n\
            sys.stdin.read()\n";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(world.state_dir().join("ledger.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed to lock the ledger");
        let mut said = [0; 7];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(&said, b"locked\n");
        Self(child)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_ledger_that_can_not_be_written_for_a_while() {
    let yaml = Yaml { check_timeout: "8s, interval: 1s".to_owned(), ..Yaml::long_hold() };
    let world = World::new(&yaml);
    let mut controller = world.controller();
    world.ordered("v1").expect(0);
    world.wait_for_status(1, &["stable"]);
    let load = world.load();
    world.ordered("v2").expect(0);
    world.wait_for_step("hold_50");
    let locked = Locked::new(&world);
    // It stops renewing both lease and dead-man, and lets go.
    wait_until("the controller to let go", || controller.says("had to be let go"));
    wait_until("a try to take it up", || controller.says("it can't be looked after now"));
    world.expect_serving("v1");
    assert!(controller.runs());
    drop(locked);
    let row = world.wait_for_status(2, &["rolled_back"]);
    assert_eq!(row["rejected"], false, "{row:#}");
    world.wait_for_rest();
    assert_eq!(ended_well(&world, &["v1"]), "v1");
    wait_until("the word of it", || controller.says("it can be looked after again"));
    let tally = load.stop();
    assert_eq!(tally.failures(), 0, "{tally:?}");
    // One word when it began, not one every second.
    assert!(controller.lines("it can't be looked after now").len() <= 3, "{}", controller.stderr());
    world.configure(&Yaml::default());
    world.ordered("v3").expect(0);
    world.wait_for_rest();
    assert_eq!(ended_well(&world, &["v3"]), "v3");
    assert_eq!(world.status()["operation"], Value::Null);
}
