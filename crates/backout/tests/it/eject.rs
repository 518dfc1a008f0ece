//! Eject: Backout goes, what runs stays, and whoever comes back starts afresh.

use std::process::Command;

use crate::compose::Shop;
use crate::support::{World, Yaml};

/// `eject --yes --format json`.
fn eject(world: &World, code: i32) -> serde_json::Value {
    world.run(&["eject", "--yes", "--format", "json"]).expect(code).json()
}

#[test]
fn a_compose_project_serves_on_and_is_adopted_afresh() {
    let shop = Shop::new(false);
    shop.world.deployed("v1");
    shop.world.deployed("v2");
    let before = shop.containers();
    let names = || {
        let reference = format!("reference=backout/{}_production/*", shop.app());
        shop.engine.expect(&["image", "ls", "--filter", &reference, "--format", "{{.Tag}}"])
    };
    let holders = || {
        let format = "{{.Label \"backout.pin\"}}";
        let all =
            shop.engine.expect(&["ps", "-a", "--filter", "label=backout.pin", "--format", format]);
        let ours = format!("{}/", shop.app());
        all.lines().filter(|line| line.starts_with(&ours)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(!names().trim().is_empty() && !holders().is_empty());
    shop.world.run(&["eject", "--purge", "--yes"]).expect(4).says("mark of this ledger");
    let dry = shop.world.run(&["eject", "--dry-run", "--format", "json"]).expect(0).json();
    assert!(!names().trim().is_empty(), "a dry run changes nothing");
    let done = eject(&shop.world, 0);
    assert_eq!(dry["removed"], done["removed"]);
    assert!(done["stays"].to_string().contains("go on"), "{done:#}");
    assert_eq!(shop.containers(), before, "the very same containers");
    shop.expect_serving("v2");
    assert_eq!((names().trim(), holders()), ("", Vec::new()), "our names are gone");

    // Nothing of before is a way back, and nothing is started by itself.
    shop.world.rollback(&["--force"]).expect(4);
    let status = shop.world.status();
    assert_eq!(status["deployment"], serde_json::Value::Null, "{status:#}");
    shop.world.run(&["recover", "--yes"]).expect(0);
    assert_eq!(shop.containers(), before);
    shop.world.run(&["eject", "--yes"]).expect(4).says("no deployment");

    // The way back of what comes next is what runs.
    shop.world.run(&["adopt", "--version", "v2", "--yes"]).expect(0);
    shop.expect_serving("v2");
    shop.world.deployed("v1");
    shop.expect_serving("v1");
    shop.world.rollback(&["--force"]).expect(0);
    shop.expect_serving("v2");
    let story = shop.world.story();
    assert_eq!(story.len(), 5, "the history is kept: {story:?}");
    assert_eq!(story[2], "#3 adopt v2 stable", "{story:?}");
}

#[test]
fn without_an_adoption_the_next_deploy_takes_its_place() {
    let shop = Shop::new(false);
    shop.world.deployed("v1");
    eject(&shop.world, 0);
    shop.expect_serving("v1");
    shop.world.deployed("v2");
    shop.expect_serving("v2");
    assert_eq!(shop.world.story(), ["#2 deploy v2 stable", "#1 deploy v1 stable"]);
}

#[test]
fn the_built_in_proxy_is_not_left_behind_unsaid() {
    let world = World::new(&Yaml::blue_green().bake("0s"));
    world.deployed("v1");
    let ran = world.run(&["eject", "--yes"]).expect(4);
    let ran = ran.says("Backout's own proxy").says(&world.listen.to_string());
    assert!(ran.stderr.contains("127.0.0.1:"), "where it can be reached: {}", ran.stderr);
    world.expect_serving("v1");
    // Stopped, there is nobody to be left alone.
    world.run(&["down", "--yes"]).expect(0);
    world.run(&["eject", "--yes", "--purge"]).expect(0);
    assert!(
        !world.state_dir().exists(),
        "{:?}",
        std::fs::read_dir(world.state_dir()).map(|d| d.count())
    );
    world.deployed("v2");
    world.expect_serving("v2");
    assert_eq!(world.story(), ["#1 deploy v2 stable"]);
}

#[test]
fn a_program_goes_on_under_its_supervisor_until_the_next_deploy() {
    let mut yaml = Yaml::recreate().bake("0s");
    yaml.router = String::new();
    yaml.process = "artifact: app, port: LISTEN".to_owned();
    let world = World::new(&yaml);
    world.deployed("v1");
    world.deployed("v2");
    let program = world.program_of("v2");
    world.run_killed(&["eject", "--yes"], "after_effect/let_go:1");
    world.expect_serving("v2");
    world.run(&["recover", "--yes"]).expect(0);
    let text = world.run(&["history", "--format", "json"]).expect(0).stdout;
    assert!(text.contains("v2"), "the history is kept");
    assert_eq!(world.program_of("v2").pid, program.pid, "nothing was started again");
    world.run(&["eject", "--yes"]).expect(4).says("no deployment");
    // The unit that takes over after a restart of the machine is printed.
    world.deployed("v3");
    world.expect_serving("v3");
    assert_eq!(world.running(), ["v3"]);
    let done = eject(&world, 0);
    let stays = done["stays"].to_string();
    assert!(stays.contains("ExecStart=") && stays.contains("WorkingDirectory="), "{stays}");
    world.expect_serving("v3");
}

#[test]
fn a_working_tree_stays_and_references_go() {
    let world = World::bare();
    let git = |args: &[&str]| {
        let out = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
            .args(args)
            .current_dir(world.folder())
            .output()
            .unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    world.write(
        "backout.yaml",
        "app: shop\ntarget: { git: { repository: site } }\nhealth: { exec: { command: [\"true\"] } }\nbake_time: 0s\n",
    );
    std::fs::create_dir(world.folder().join("site")).unwrap();
    git(&["init", "--quiet", "site"]);
    for version in ["v1", "v2"] {
        world.write("site/page", version);
        git(&["-C", "site", "add", "."]);
        git(&["-C", "site", "commit", "--quiet", "-m", version]);
        git(&["-C", "site", "tag", version]);
    }
    world.deployed("v1");
    world.deployed("v2");
    let refs = || git(&["-C", "site", "for-each-ref", "refs/backout", "--format=%(refname)"]);
    assert!(!refs().is_empty());
    let before = git(&["-C", "site", "worktree", "list"]);
    // A drill in the tree first: the commit is checked out elsewhere, and nothing is left of it.
    let drill = world.run(&["drill", "--yes", "--format", "json"]).expect(0).json();
    assert!(drill["rehearsed"].to_string().contains("1 files, each whole"), "{drill:#}");
    assert_eq!(git(&["-C", "site", "worktree", "list"]), before);
    assert_eq!(git(&["-C", "site", "status", "--short"]), "");
    let left = std::fs::read_dir(world.folder().join("site/.git/backout")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("drill-")), "{left:?}");

    eject(&world, 0);
    assert_eq!(refs(), "", "no reference of ours is left");
    assert_eq!(world.read("site/page"), "v2");
    assert_eq!(git(&["-C", "site", "tag"]), "v1\nv2", "your tags stay, ours is gone");
    world.run(&["adopt", "--yes"]).expect(0);
    world.deployed("v1");
    world.rollback(&["--force"]).expect(0);
    assert_eq!(world.read("site/page"), "v2");
}
