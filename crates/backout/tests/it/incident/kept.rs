//! What is in a bundle, and what is not.

use std::os::unix::fs::PermissionsExt as _;

use super::{all_text, files, folder, names, shown};
use crate::cases::{FAILS, UNHEALTHY};
use crate::support::{Service, World, Yaml};

/// A world whose program prints the secrets that it was given, by value and by name.
fn talkative(yaml: Yaml) -> World {
    let process = "artifact: app, port: auto, env: { TOKEN: \"${TOKEN}\" }".to_owned();
    let yaml = Yaml { process, ..yaml }.extra("secrets: [TOKEN, PASSWORD]\nconfig: [app.env]");
    let world = World::bare();
    world.set("TOKEN", "t0ken-of-today");
    world.configure(&yaml);
    world.write("app.env", "LIMIT=1\nPASSWORD=\"hunter2 and more\"\n");
    world.build(Service::default());
    world
}

const SAYS: &str = "echo \"v2 says hello with $TOKEN\"\necho 'login PASSWORD=older-password failed'\ncat app.env 2>/dev/null; echo 'disk on fire' >&2";

#[test]
fn a_release_that_was_taken_back_is_kept_without_secrets() {
    let world = talkative(Yaml::default());
    world.deployed("v1");
    world.build(Service { before: SAYS, ..FAILS });
    world.write("app.env", "LIMIT=2\nPASSWORD=\"hunter2 and more\"\n");
    let load = world.load();
    let document = world.deploy("v2").expect(10).json();
    load.stop();
    let id = document["rollback"]["id"].as_str().unwrap().to_owned();
    assert_eq!(names(&world), [id.as_str()]);

    let bundle = shown(&world, &id);
    let files = files(&bundle);
    for wanted in [
        "plan.json",
        "journal.json",
        "failed-plan.json",
        "failed-journal.json",
        "verdict.json",
        "config.diff",
        "state.json",
        "shop.log",
        "shop.supervisor.json",
    ] {
        assert!(files.iter().any(|name| name == wanted), "{wanted} in {files:?}");
    }
    assert_eq!(bundle["problems"], serde_json::json!([]), "{bundle:#}");
    assert_eq!((&bundle["deployment"], &bundle["version"]), (&2.into(), &"v2".into()));
    assert_eq!(bundle["evidence"], document["rollback"]["evidence"]);
    let path = folder(&world).join(&id);
    let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
    let log = read("shop.log");
    assert!(log.contains("v2 says hello with [redacted]"), "{log}");
    assert!(log.contains("PASSWORD=[redacted] failed") && log.contains("disk on fire"), "{log}");
    let diff = read("config.diff");
    assert!(diff.contains("-LIMIT=1") && diff.contains("+LIMIT=2"), "{diff}");
    let verdict: serde_json::Value = serde_json::from_str(&read("verdict.json")).unwrap();
    assert!(verdict["judge"]["canary"]["failed"].as_u64().unwrap() > 0, "{verdict:#}");
    let state: serde_json::Value = serde_json::from_str(&read("state.json")).unwrap();
    let unit = state["units"].as_object().unwrap().values().next().unwrap();
    // It still ran: it was kept before it was stopped, and after traffic had left it.
    assert_eq!((&unit["running"], &unit["version"]), (&"yes".into(), &"v2".into()), "{state:#}");
    assert_eq!(state["traffic"]["weights"]["b"].as_u64().unwrap_or(0), 0, "{state:#}");
    let all = all_text(&folder(&world));
    for secret in ["t0ken-of-today", "hunter2", "older-password"] {
        assert!(!all.contains(secret), "{secret} is in the bundle");
    }
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&folder(&world)) & 0o777, 0o700);
    assert_eq!(mode(&path) & 0o777, 0o700);
    assert_eq!(mode(&path.join("shop.log")) & 0o777, 0o600);

    // By whatever name: the rollback, the deployment that it made, and the one that was left.
    for name in ["#3", "#2"] {
        assert_eq!(shown(&world, name)["id"], id.as_str(), "{name}");
    }
    assert_eq!(shown(&world, "#1"), serde_json::Value::Null);
    let text = world.run(&["inspect", "#2"]).expect(0).stdout;
    for words in [format!("incident bundle {id}"), "shop.log".to_owned(), "disk on fire".to_owned()]
    {
        assert!(text.contains(&words), "{words:?} in\n{text}");
    }
}

#[test]
fn so_is_one_that_a_person_takes_back_and_one_that_was_the_first() {
    let world = World::new(&Yaml::blue_green().bake("0s"));
    world.deployed("v1");
    world.build(Service { before: "echo only v2 says this", ..Service::default() });
    world.deployed("v2");
    let back = world.rollback(&["--force"]).expect(0).json();
    let id = back["id"].as_str().unwrap();
    let bundle = shown(&world, "#2");
    assert_eq!(bundle["id"], id);
    let log = std::fs::read_to_string(folder(&world).join(id).join("shop.log")).unwrap();
    assert!(log.contains("only v2 says this"), "{log}");
    let step = back["steps"].as_array().unwrap().iter().find(|s| s["name"] == "keep_evidence");
    assert_eq!(step.unwrap()["status"], "done", "{back:#}");

    let first = World::new(&Yaml::blue_green());
    first.build(UNHEALTHY);
    first.deploy("v1").expect(1);
    let bundle = shown(&first, "#1");
    assert_eq!(bundle["version"], "v1", "{bundle:#}");
    assert!(bundle["id"].as_str().unwrap().starts_with("op_"), "{bundle:#}");
}

#[test]
fn where_programs_are_replaced_in_their_place_it_comes_first() {
    let mut yaml = Yaml::recreate();
    yaml.router = String::new();
    yaml.process = "artifact: app, port: LISTEN".to_owned();
    let world = World::new(&yaml);
    world.deployed("v1");
    world.build(Service { before: "echo v2 begins", ..UNHEALTHY });
    let document = world.deploy("v2").expect(10).json();
    let steps = document["rollback"]["steps"].as_array().unwrap();
    let place = |name: &str| steps.iter().position(|step| step["name"] == name).unwrap();
    assert!(place("keep_evidence") < place("stop"), "{steps:#?}");
    let bundle = shown(&world, "#2");
    assert!(files(&bundle).contains(&"shop.log".to_owned()), "{bundle:#}");
    world.expect_serving("v1");
}

#[test]
fn a_secret_that_was_changed_since_is_taken_out_all_the_same() {
    let world = talkative(Yaml::blue_green().bake("0s"));
    world.deployed("v1");
    world.build(Service { before: SAYS, ..Service::default() });
    world.deployed("v2");
    world.set("TOKEN", "another-value");
    world.rollback(&["--force"]).expect(0);
    let all = all_text(&folder(&world));
    assert!(all.contains("v2 says hello with [redacted]"), "{all}");
    assert!(!all.contains("t0ken-of-today"));
}
