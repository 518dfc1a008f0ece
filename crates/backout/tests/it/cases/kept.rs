//! What belongs to a release besides its program: config files, and what a look at the plan may not change.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::world_with;
use crate::support::{World, Yaml};

fn with_config() -> Yaml {
    Yaml::recreate().extra("config: [\"conf/*\", settings.env]").extra("secrets: [API_KEY]")
}

fn write_config(world: &World, limit: &str, mode: u32, link: &str, key: &str) {
    let conf = world.folder().join("conf");
    world.write("conf/limits.json", &format!("{{\"limit\": {limit}}}\r\n\t"));
    fs::set_permissions(conf.join("limits.json"), fs::Permissions::from_mode(mode)).unwrap();
    let _ = fs::remove_file(conf.join("current"));
    symlink(link, conf.join("current")).unwrap();
    world.write("settings.env", &format!("LIMIT={limit}\nAPI_KEY={key}\n"));
}

/// Content, mode and link as they are on disk.
fn config_of(world: &World) -> (String, u32, String, String) {
    let conf = world.folder().join("conf");
    let mode = fs::metadata(conf.join("limits.json")).unwrap().permissions().mode() & 0o7777;
    let link = fs::read_link(conf.join("current")).unwrap();
    let link = link.display().to_string();
    (world.read("conf/limits.json"), mode, link, world.read("settings.env"))
}

#[test]
fn the_same_version_with_other_config_is_another_release() {
    let world = World::new(&with_config());
    write_config(&world, "10", 0o640, "limits.json", "first-secret");
    world.deployed("v1");
    let (limits, mode, link, _) = config_of(&world);
    write_config(&world, "99", 0o600, "../settings.env", "second-secret");
    world.deployed("v1");
    let rows = world.history();
    assert_ne!(rows[0]["release"], rows[1]["release"]);
    let later = config_of(&world);

    world.rollback(&["--force"]).expect(0);
    let restored = config_of(&world);
    let settings = "LIMIT=10\nAPI_KEY=second-secret\n".to_owned();
    assert_eq!(restored, (limits, mode, link, settings), "all as it was, but today's secret");
    assert_eq!(world.row(3)["release"], rows[1]["release"]);

    // To ship the restored files again must be meant.
    let ran = world.deploy("v2").expect(4);
    let hints = &ran.stderr;
    assert!(hints.contains("--config keep") && hints.contains("--config 2"), "{hints}");
    assert_eq!(world.history().len(), 3);
    let deploy = ["deploy", "--version", "v2", "--yes", "--config"];
    world.run(&[&deploy[..], &["2"]].concat()).expect(0);
    assert_eq!(config_of(&world), later);
    world.rollback(&["--force"]).expect(0);
    world.run(&[&deploy[..], &["keep"]].concat()).expect(0);
    assert_eq!(config_of(&world), restored);
    // No secret lies in the state folder.
    for secret in ["first-secret", "second-secret"] {
        assert!(!holds(&world.state_dir(), secret), "{secret} was kept");
    }
}

fn holds(folder: &std::path::Path, needle: &str) -> bool {
    fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            return holds(&entry.path(), needle);
        }
        let bytes = if kind.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    })
}

#[test]
fn a_changed_file_after_a_rollback_is_deployed_without_a_question() {
    let world = World::new(&with_config());
    write_config(&world, "10", 0o644, "limits.json", "k");
    world.deployed("v1");
    write_config(&world, "20", 0o644, "limits.json", "k");
    world.deployed("v2");
    world.rollback(&["--force"]).expect(0);
    write_config(&world, "30", 0o644, "limits.json", "k");
    world.deployed("v3");
    assert!(world.read("conf/limits.json").contains("30"));
}

#[test]
fn a_dry_run_changes_nothing() {
    let world = World::new(&Yaml::default());
    let dry = ["deploy", "--version", "v1", "--dry-run", "--format", "json"];
    let plan = world.run(&dry).expect(0).json();
    assert!(plan["digest"].as_str().is_some_and(|digest| !digest.is_empty()), "{plan:#}");
    assert!(plan["steps"].as_array().unwrap().iter().any(|step| step["name"] == "start"));
    assert!(!world.state_dir().exists(), "not even a state folder is made");
    assert!(world.processes().is_empty());

    world.deployed("v1");
    world.deployed("v2");
    let (rows, files) = (world.history(), listing(&world.state_dir()));
    world.run(&["deploy", "--version", "v3", "--dry-run"]).expect(0);
    let plan =
        world.run(&["rollback", "--dry-run", "--force", "--format", "json"]).expect(0).json();
    let check = |name: &str| {
        plan["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).cloned()
    };
    assert_eq!(check("artifact_available").unwrap()["passed"], true, "{plan:#}");
    assert_eq!(world.history(), rows);
    assert_eq!(listing(&world.state_dir()), files);
    world.expect_serving("v2");
    assert_eq!(world.running(), ["v2"]);
}

/// Names of all files but those of the store itself, which come and go with every look into it.
fn listing(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.path().display().to_string();
        if entry.file_type().unwrap().is_dir() {
            found.extend(listing(&entry.path()));
        } else if !name.ends_with("-wal") && !name.ends_with("-shm") {
            found.push(name);
        }
    }
    found.sort();
    found
}

#[test]
fn another_folder_is_said_first() {
    let world = world_with(&Yaml::blue_green(), &["v1"]);
    let moved = world.root().join("moved");
    fs::rename(world.folder(), &moved).unwrap();
    let mut command = world.command(&["deploy", "--version", "v2", "--yes"]);
    command.current_dir(&moved);
    let ran = world.spawn_command(command).wait().expect(0);
    assert!(ran.stderr.contains("moved"), "{}", ran.stderr);
    world.expect_serving("v2");
    fs::rename(&moved, world.folder()).unwrap();
}
