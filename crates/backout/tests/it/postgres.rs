//! The same commands on a ledger in a real PostgreSQL server.

use std::path::Path;

use backout_testkit::postgres::{Cut, LOCKED_USER, PASSWORD, PostgresServer, Proxy, Setup, shared};

use crate::controller::together;
use crate::kills::quick;
use crate::support::{Ran, World, Yaml, wait_for};

const DATABASE: &str = "BACKOUT_DATABASE_URL";

/// A world with a database of its own. Returns its name too.
fn on_database(yaml: &Yaml) -> (World, String) {
    let world = World::new(yaml);
    let database = shared().database();
    world.set(DATABASE, &shared().url(&database));
    (world, database)
}

/// Files of a folder, and of those in it, that hold a text.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&path, text));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

fn says_no_password(ran: &Ran) {
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(PASSWORD), "{ran:?}");
}

#[test]
fn a_deploy_and_a_rollback_live_in_the_database() {
    let world = World::new(&Yaml::default());
    let database = shared().database();
    let grant = format!("GRANT CREATE ON DATABASE {database} TO {LOCKED_USER}");
    shared().sql(&database, &grant);
    let url = shared().url_of(&format!("{LOCKED_USER}:{PASSWORD}"), &database);
    world.set(DATABASE, &url);
    world.deployed("v1");
    world.deployed("v2");
    world.expect_serving("v2");
    world.rollback(&["--force"]).expect(0);
    world.expect_serving("v1");
    let story =
        ["#3 rollback v1 stable", "#2 deploy v2 rolled_back rejected", "#1 deploy v1 stable"];
    assert_eq!(world.story(), story);
    assert!(!world.state_dir().join("ledger.db").exists());
    assert_eq!(shared().sql(&database, "SELECT count(*) FROM backout.deployments"), "3");
    let doctor = world.run(&["doctor", "--format", "json"]);
    assert!(doctor.stdout.contains(&format!("/{database} is readable")), "{}", doctor.stdout);
    let all = [
        doctor,
        world.run(&["status", "-v"]).expect(0),
        world.run(&["history"]).expect(0),
        world.run(&["inspect", "#2"]).expect(0),
        world.run(&["audit", "verify"]).expect(0),
        world.run(&["-vv", "deploy", "--version", "v3", "--dry-run"]).expect(0),
    ];
    all.iter().for_each(says_no_password);
    assert_eq!(files_with(&world.state_dir(), PASSWORD), [""; 0]);
    // Nobody who was started keeps it: not the proxy, not the supervisor, not the program.
    for process in world.processes() {
        let environment =
            std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        let text = String::from_utf8_lossy(&environment).into_owned();
        assert!(!text.contains(PASSWORD), "{process:?}");
    }
}

#[test]
fn a_killed_deploy_is_recovered_from_the_database() {
    let instants = [
        "after_open:1",
        "after_intent/start:1",
        "after_effect/shift_traffic:1",
        "before_outcome/shift_traffic:2",
        "after_intent/bake:1",
        "before_end:1",
    ];
    std::thread::scope(|scope| {
        for instant in instants {
            scope.spawn(move || {
                let (world, _) = on_database(&Yaml::default().bake("300ms"));
                world.deployed("v1");
                world.run_killed(&["deploy", "--version", "v2", "--yes"], instant);
                assert_eq!(world.status()["watched_by"], serde_json::Value::Null, "{instant}");
                let ran = world.run(&["recover", "--yes", "--format", "json"]);
                let serving = world.serving();
                let version = serving.first().unwrap().clone();
                let fits =
                    matches!((ran.code, version.as_str()), (Some(0), "v2") | (Some(10 | 1), "v1"));
                assert!(fits && serving.len() == 1, "{instant}: {ran:?} {serving:?}");
                assert_eq!(world.status()["operation"], serde_json::Value::Null, "{instant}");
                // No lock is in the way of the next one.
                world.deployed("v3");
                world.expect_serving("v3");
                world.run(&["audit", "verify"]).expect(0);
            });
        }
    });
}

#[test]
fn two_state_folders_see_one_ledger_and_one_holder() {
    let (first, database) = on_database(&Yaml::long_hold());
    first.deployed("v1");
    let second = World::new(&Yaml::long_hold());
    second.set(DATABASE, &shared().url(&database));
    assert_eq!(second.story(), first.story());
    let deploying = first.deploying("v2");
    first.wait_for_step("hold_50");
    // From another place, by the word of the database alone.
    let deploy = ["deploy", "--version", "v9", "--yes", "--override", "artifact_available"];
    second.run(&deploy).expect(5).says("busy");
    second.run(&["abort", "--yes"]).expect(0);
    deploying.wait().expect(10);
    first.expect_serving("v1");
    assert_eq!(second.story(), first.story());
}

#[test]
fn a_ledger_moves_into_the_database_and_everything_goes_on() {
    let world = World::new(&Yaml::default());
    world.deployed("v1");
    world.deployed("v2");
    let story = world.story();
    let database = shared().database();
    let url = shared().url(&database);
    // Not under somebody's feet.
    world.configure(&Yaml::long_hold());
    let deploying = world.deploying("v3");
    world.wait_for_step("hold_50");
    world.run(&["ledger", "copy", "--to", &url]).expect(5).says("busy");
    world.run(&["abort", "--yes"]).expect(0);
    deploying.wait().expect(10);
    world.configure(&Yaml::default());
    let before = world.story();
    assert_eq!(before[before.len() - 2..], story);
    let moved = world.run(&["ledger", "copy", "--to", &url, "--format", "json"]).expect(0).json();
    assert_eq!(moved["audit_verified"], true);
    assert_eq!(moved["rows"]["deployments"], before.len());
    // The old one is used by nobody.
    for args in [&["status"][..], &["deploy", "--version", "v4", "--yes"], &["history"]] {
        world.run(args).expect(1).says("it was moved to postgres://");
    }
    world.set(DATABASE, &url);
    assert_eq!(world.story(), before);
    world.deployed("v4");
    world.expect_serving("v4");
    world.rollback(&["--force"]).expect(0);
    world.expect_serving("v2");
    world.run(&["audit", "verify"]).expect(0);
}

#[test]
fn a_bad_address_is_a_usage_error_that_repeats_nothing() {
    let world = World::new(&Yaml::default());
    let bad = format!("mysql://ann:{PASSWORD}@db/x");
    let ran = world.run(&["ledger", "copy", "--to", &bad]).expect(2);
    says_no_password(&ran);
    world.set(DATABASE, &bad);
    let ran = world.run(&["status"]).expect(2).says(DATABASE);
    says_no_password(&ran);
    // The demo shows what it shows, wherever the ledger is.
    let wrong = shared().url_of(&format!("{LOCKED_USER}:no-{PASSWORD}"), "postgres");
    world.set(DATABASE, &wrong);
    let ran = world.run(&["status"]).expect(1).says("check the password");
    says_no_password(&ran);
}

#[test]
fn a_deploy_outlives_a_restart_of_the_database() {
    let mut server = PostgresServer::start(&Setup { durable: true, ..Setup::default() });
    let world = World::new(&Yaml::long_hold());
    world.set(DATABASE, &server.url(&server.database()));
    world.deployed("v1");
    let mut deploying = world.deploying("v2");
    world.wait_for_step("hold_50");
    server.stop_at_once();
    server.start_again();
    assert!(deploying.runs(), "{}", deploying.stderr());
    world.run(&["promote", "--full"]).expect(0);
    deploying.wait().expect(0);
    world.expect_serving("v2");
    world.run(&["audit", "verify"]).expect(0);
}

/// Nobody renews the dead-man without a ledger: traffic goes back by itself, and the deploy ends.
#[test]
fn in_a_hole_the_dead_man_takes_traffic_back() {
    let router = r#"{ builtin: { listen: "127.0.0.1:LISTEN", dead_man: 4s } }"#.to_owned();
    let world = World::new(&Yaml { router, ..Yaml::long_hold() });
    let database = shared().database();
    let direct = [(DATABASE, shared().url(&database))];
    let direct: Vec<(&str, &str)> =
        direct.iter().map(|(name, url)| (*name, url.as_str())).collect();
    let proxy = Proxy::new(shared());
    world.set(DATABASE, &proxy.url(&database));
    world.deployed("v1");
    let deploying = world.deploying("v2");
    world.wait_for_step("hold_50");
    assert_eq!(world.serving().len(), 2, "both sides are asked");
    proxy.fall_silent();
    let entries = || shared().sql(&database, "SELECT count(*) FROM backout.entries");
    wait_for("traffic back on the stable side", || {
        (world.serving().into_iter().eq(["v1".to_owned()])).then_some(())
    });
    // It ends by itself, and not well.
    let ran = deploying.wait();
    assert!(!matches!(ran.code, Some(0 | 3)), "{ran:?}");
    let known = entries();
    let status = world.run_with(&["status", "--format", "json"], &direct).expect(0).json();
    let open = &status["environments"][0]["operation"];
    assert_eq!(open["kind"], "deploy", "{status:#}");
    assert_eq!(entries(), known, "looking writes nothing");
    proxy.come_back();
    world.run(&["recover", "--yes"]).expect(10);
    world.expect_serving("v1");
    let row = world.row(2);
    assert_eq!(
        (row["status"].as_str(), row["rejected"].as_bool()),
        (Some("rolled_back"), Some(false))
    );
    world.run(&["audit", "verify"]).expect(0);
}

#[test]
fn two_controllers_on_one_database_do_everything_once() {
    let (world, _) = on_database(&quick(Yaml::default()));
    together::do_everything_once(&world);
    world.run(&["audit", "verify"]).expect(0);
}

/// The connection of a real deploy is cut again and again.
#[test]
fn a_deploy_gets_through_a_network_that_drops_connections() {
    let (world, database) = on_database(&Yaml::default());
    world.deployed("v1");
    let proxy = std::sync::Arc::new(Proxy::new(shared()));
    let url = proxy.url(&database);
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let cutter = {
        let (proxy, ended) = (proxy.clone(), ended.clone());
        std::thread::spawn(move || {
            let mut cuts = 0;
            for turn in 0.. {
                if ended.load(std::sync::atomic::Ordering::SeqCst) {
                    return cuts;
                }
                proxy.arm(turn % 23 + 5, Cut::ALL[turn as usize % Cut::ALL.len()]);
                std::thread::sleep(std::time::Duration::from_millis(300));
                cuts += u32::from(proxy.disarm());
            }
            cuts
        })
    };
    let deploy = ["deploy", "--version", "v2", "--yes"];
    let ran = world.run_with(&deploy, &[(DATABASE, &url)]);
    ended.store(true, std::sync::atomic::Ordering::SeqCst);
    let cuts = cutter.join().unwrap();
    ran.expect(0);
    assert!(cuts >= 3, "{cuts} cuts");
    world.expect_serving("v2");
    world.run(&["audit", "verify"]).expect(0);
}
