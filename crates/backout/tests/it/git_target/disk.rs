//! A working tree that can't be written.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{commit, git, world};
use crate::support::World;

/// A folder without a way to write to it, until this is dropped.
struct WriteProtected(PathBuf);

impl WriteProtected {
    fn new(path: PathBuf) -> Self {
        mount(&["--bind", &path.display().to_string()], &path);
        let this = Self(path);
        mount(&["-o", "remount,bind,ro"], &this.0);
        this
    }
}

impl Drop for WriteProtected {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn mount(args: &[&str], at: &Path) {
    assert!(Command::new("mount").args(args).arg(at).status().unwrap().success());
}

/// Everything is that of `v1`, and nothing is under way.
#[track_caller]
fn still_on_v1(world: &World) {
    assert_eq!(world.read("site/app.txt"), "v1");
    assert_eq!(commit(world, "HEAD"), commit(world, "v1"));
    assert_eq!(commit(world, "last-stable"), commit(world, "v1"));
    assert_eq!(git(world, &["status", "--porcelain"]), "");
    let status = world.status();
    assert_eq!(
        (&status["version"], &status["operation"]),
        (&"v1".into(), &serde_json::Value::Null)
    );
}

#[test]
fn a_tree_on_a_disk_that_was_closed_stays_as_it_is_and_moves_once_it_is_open() {
    let world = world("");
    world.deploy("v1").expect(0);
    let protected = WriteProtected::new(world.folder().join("site"));
    world.deploy("v2").expect(4).says("can't be written: the top one");
    still_on_v1(&world);
    drop(protected);
    world.deploy("v2").expect(0);
    assert_eq!(world.read("site/app.txt"), "v2");
}

/// Git itself only warns of a file that it can't remove.
#[test]
fn a_file_that_can_not_be_removed_is_no_deploy() {
    let world = world("");
    git(&world, &["checkout", "--quiet", "main"]);
    world.write("site/app.txt", "v1");
    world.write("site/static/page.txt", "any");
    world.write("site/static/old.txt", "of v1");
    git(&world, &["add", "--all"]);
    git(&world, &["commit", "--quiet", "--message", "v1"]);
    git(&world, &["tag", "--force", "v1"]);
    world.write("site/app.txt", "v2");
    std::fs::remove_file(world.folder().join("site/static/old.txt")).unwrap();
    git(&world, &["commit", "--quiet", "--all", "--message", "v2"]);
    git(&world, &["tag", "--force", "v2"]);
    git(&world, &["checkout", "--quiet", "v1"]);
    world.deploy("v1").expect(0);
    let protected = WriteProtected::new(world.folder().join("site/static"));
    world.deploy("v2").expect(4).says("can't be written: static");
    drop(protected);
    still_on_v1(&world);
    world.deploy("v2").expect(0);
    assert!(!world.folder().join("site/static/old.txt").exists());
}

/// A part of the tree is a mount of its own, as uploads or volumes of containers often are.
#[test]
fn a_tree_with_a_closed_folder_in_it_comes_back_whole_once_that_is_open() {
    let world = world("");
    git(&world, &["checkout", "--quiet", "main"]);
    for label in ["v1", "v2"] {
        world.write("site/app.txt", label);
        world.write("site/static/page.txt", label);
        git(&world, &["add", "--all"]);
        git(&world, &["commit", "--quiet", "--message", label]);
        git(&world, &["tag", "--force", label]);
    }
    git(&world, &["checkout", "--quiet", "v1"]);
    world.deploy("v1").expect(0);
    let protected = WriteProtected::new(world.folder().join("site/static"));
    let ran = world.deploy("v2").expect(4);
    assert!(ran.stderr.contains("can't be written: static"), "{}", ran.stderr);
    still_on_v1(&world);
    // Who lifts the check gets what git makes of it, and it can be mended.
    let lifted = ["deploy", "--version", "v2", "--override", "nothing_in_the_way", "--yes"];
    let ran = world.run(&lifted);
    assert!(matches!(ran.code, Some(1 | 10 | 12)), "{:?} {}", ran.code, ran.stderr);
    assert!(
        ran.stderr.contains("static/page.txt") && ran.stderr.contains("Read-only file system"),
        "{}",
        ran.stderr
    );
    assert_eq!(world.status()["version"], "v1");
    drop(protected);
    if ran.code == Some(12) {
        world.run(&["retry", "--yes"]).expect(0);
    }
    still_on_v1(&world);
    assert_eq!(world.read("site/static/page.txt"), "v1");
    world.deploy("v2").expect(0);
    assert_eq!(world.read("site/app.txt"), "v2");
    assert_eq!(world.read("site/static/page.txt"), "v2");
}
