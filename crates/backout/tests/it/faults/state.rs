//! State folders that are not ours, not writable, or hold something else than expected.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::still_on_v1;
use crate::support::{World, Yaml};

const DEPLOY: [&str; 4] = ["deploy", "--version", "v1", "--yes"];

/// Runs in other folders than the world's: exit code, standard error, standard output.
fn run_in(
    world: &World,
    folder: &Path,
    state: &Path,
    args: &[&str],
) -> (Option<i32>, String, String) {
    let output = Command::new(world.program())
        .arg("--state-dir")
        .arg(state)
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", world.root().join("home"))
        .env("BACKOUT_STATE_DIR", world.state_dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stderr), text(&output.stdout))
}

#[test]
fn a_state_folder_that_others_may_write_is_refused() {
    let world = World::new(&Yaml::default());
    fs::create_dir(world.state_dir()).unwrap();
    fs::set_permissions(world.state_dir(), Permissions::from_mode(0o777)).unwrap();
    world.run(&DEPLOY).expect(1).says("777").says("chmod 700").says("--state-dir");
    assert_eq!(fs::read_dir(world.state_dir()).unwrap().count(), 0, "nothing was put there");
    assert!(world.processes().is_empty());
    fs::set_permissions(world.state_dir(), Permissions::from_mode(0o700)).unwrap();
    world.deployed("v1");
}

#[test]
fn a_state_folder_of_another_user_is_refused() {
    let world = World::new(&Yaml::default());
    let foreign = if rustix::process::geteuid().is_root() {
        fs::create_dir(world.state_dir()).unwrap();
        std::os::unix::fs::chown(world.state_dir(), Some(65_534), Some(65_534)).unwrap();
        world.state_dir()
    } else {
        Path::new("/").to_owned()
    };
    let before = fs::read_dir(&foreign).unwrap().count();
    let (code, said, _) = run_in(&world, &world.folder(), &foreign, &DEPLOY);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("owns it") && said.contains("--state-dir"), "{said}");
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), before);
    assert!(world.processes().is_empty());
    if foreign == world.state_dir() {
        fs::remove_dir(foreign).unwrap();
    }
}

#[test]
fn a_state_folder_that_can_not_be_made_is_named() {
    let world = World::new(&Yaml::default());
    world.write("../state", "a file, not a folder");
    world.run(&DEPLOY).expect(1).says("not a folder").says("--state-dir");
    fs::remove_file(world.state_dir()).unwrap();
    std::os::unix::fs::symlink("/nonexistent/state", world.state_dir()).unwrap();
    world.run(&DEPLOY).expect(1).says("a link to nothing").says("--state-dir");
    fs::remove_file(world.state_dir()).unwrap();
    // Nobody can make a folder in there, not even root.
    let never = Path::new("/proc/backout-state");
    let (code, said, _) = run_in(&world, &world.folder(), never, &DEPLOY);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("failed to create /proc/backout-state"), "{said}");
    assert!(world.processes().is_empty());
}

#[test]
fn the_folder_that_knows_the_environment_is_named() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    let known = world.state_dir().display().to_string();
    let other = world.root().join("elsewhere");
    for (verb, code) in [(&["rollback", "--yes"][..], 4), (&["down", "--yes"], 4), (&["abort"], 4)]
    {
        let (found, said, _) = run_in(&world, &world.folder(), &other, verb);
        assert_eq!(found, Some(code), "{verb:?}: {said}");
        assert!(said.contains(&format!("--state-dir {known}")), "{verb:?}: {said}");
        assert!(said.contains("elsewhere (--state-dir)"), "{verb:?}: {said}");
    }
    still_on_v1(&world);
}

#[test]
fn a_ledger_from_a_newer_version_is_left_alone() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    let ledger = world.state_dir().join("ledger.db");
    let log = world.state_dir().join("ledger.db-wal");
    assert!(
        fs::metadata(&log).map_or(0, |meta| meta.len()) == 0,
        "the last one copies the log back"
    );
    let mut bytes = fs::read(&ledger).unwrap();
    let old = bytes.clone();
    // SQLite's header keeps `user_version` there, which is the ledger's format.
    bytes[60..64].copy_from_slice(&9_999_u32.to_be_bytes());
    fs::write(&ledger, &bytes).unwrap();
    for verb in [&["deploy", "--version", "v2", "--yes"][..], &["rollback", "--yes"], &["status"]] {
        world.run(verb).expect(1).says("9999").says("newer");
    }
    assert_eq!(fs::read(&ledger).unwrap(), bytes, "not a byte was changed");
    world.expect_serving("v1");
    fs::write(&ledger, old).unwrap();
    still_on_v1(&world);
}

#[test]
fn an_environment_of_another_ledger_is_left_alone() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    // Somebody puts the ledger away, and what it started runs on.
    let away = world.root().join("away");
    fs::create_dir(&away).unwrap();
    let files = ["ledger.db", "ledger.db-wal", "ledger.db-shm"];
    let shift = |from: &Path, to: &Path| {
        for file in files.iter().filter(|file| from.join(file).exists()) {
            fs::rename(from.join(file), to.join(file)).unwrap();
        }
    };
    shift(&world.state_dir(), &away);
    world.run(&["deploy", "--version", "v2", "--yes"]).expect(4).says("another ledger");
    world.expect_serving("v1");
    assert_eq!(world.running(), ["v1"]);
    for file in files {
        let _ = fs::remove_file(world.state_dir().join(file));
    }
    shift(&away, &world.state_dir());
    still_on_v1(&world);
    world.deployed("v2");
    world.expect_serving("v2");
}

#[test]
fn a_ledger_that_was_cut_short_is_not_taken_for_an_empty_one() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    let ledger = world.state_dir().join("ledger.db");
    let old = fs::read(&ledger).unwrap();
    for remains in [&old[..0], &old[..100]] {
        fs::write(&ledger, remains).unwrap();
        for verb in
            [&["deploy", "--version", "v2", "--yes"][..], &["rollback", "--yes"], &["status"]]
        {
            world.run(verb).expect(1).says("ledger.db").says("backup");
        }
        assert_eq!(fs::read(&ledger).unwrap(), remains);
        world.expect_serving("v1");
    }
    fs::write(&ledger, old).unwrap();
    still_on_v1(&world);
}

#[test]
fn checkout_and_state_folder_move_together() {
    let world = World::new(&Yaml::blue_green());
    world.deployed("v1");
    world.deployed("v2");
    let moved = world.root().join("moved");
    fs::create_dir(&moved).unwrap();
    fs::rename(world.folder(), moved.join("shop")).unwrap();
    fs::rename(world.state_dir(), moved.join("state")).unwrap();
    let run = |args: &[&str]| run_in(&world, &moved.join("shop"), &moved.join("state"), args);
    let (code, said, status) = run(&["status", "--format", "json"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(status.contains(r#""version":"v2""#), "{status}");
    let (code, said, _) = run(&["rollback", "--force", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the last operation here ran from"), "{said}");
    world.expect_serving("v1");
    let (code, said, _) = run(&["deploy", "--version", "v3", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    world.expect_serving("v3");
    let (code, said, _) = run(&["down", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.running(), Vec::<String>::new());
}
