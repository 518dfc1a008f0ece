//! A working tree of git as target: there, back, adopted, in somebody's way, and cut short.

mod disk;
mod hosts;

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{World, wait_until};

fn git(world: &World, args: &[&str]) -> String {
    git_in(&world.folder().join("site"), args)
}

fn git_in(tree: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"];
    let output = Command::new("git")
        .args(identity)
        .env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z")
        .args(args)
        .current_dir(tree)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// `site/app.txt` holds the version; tags `v1`, `v2`, `v3-bad`. Versions with `bad` in them fail the check.
fn world(more: &str) -> World {
    let world = World::bare();
    world.script("check.sh", "#!/bin/sh\n! grep -q bad site/app.txt\n");
    world.write("site/app.txt", "nothing");
    git(&world, &["init", "--quiet", "--initial-branch=main"]);
    for label in ["v1", "v2", "v3-bad"] {
        world.write("site/app.txt", label);
        git(&world, &["add", "--all"]);
        git(&world, &["commit", "--quiet", "--message", label]);
        git(&world, &["tag", label]);
    }
    git(&world, &["checkout", "--quiet", "v1"]);
    world.write(
        "backout.yaml",
        &format!(
            r#"app: site
target: {{ git: {{ repository: site{more} }} }}
health:
  exec: {{ command: [./check.sh], timeout: 20s }}
  during_rollout: {{ interval: 100ms }}
  consecutive_passes: 2
  consecutive_failures: {{ count: 2, within: 60s }}
  startup_timeout: 40s
bake_time: 300ms
"#
        ),
    );
    world
}

fn commit(world: &World, name: &str) -> String {
    git(world, &["rev-parse", &format!("{name}^{{commit}}")])
}

#[test]
fn a_bad_commit_is_taken_back_and_the_last_good_one_is_tagged() {
    let world = world("");
    world.deploy("v1").expect(0);
    world.deploy("v2").expect(0);
    assert_eq!(
        (world.read("site/app.txt").as_str(), commit(&world, "last-stable")),
        ("v2", commit(&world, "v2"))
    );
    world.deploy("v3-bad").expect(10);
    assert_eq!(world.read("site/app.txt"), "v2");
    assert_eq!(commit(&world, "HEAD"), commit(&world, "v2"));
    assert_eq!(
        world.story()[..2],
        ["#4 rollback v2 stable", "#3 deploy v3-bad rolled_back rejected"]
    );
    world.rollback(&["--force"]).expect(0);
    assert_eq!(world.read("site/app.txt"), "v1");
    assert_eq!(world.status()["version"], "v1");
}

#[test]
fn the_way_back_survives_rewritten_history() {
    let world = world("");
    world.deploy("v1").expect(0);
    world.deploy("v2").expect(0);
    git(&world, &["checkout", "--quiet", "--orphan", "anew"]);
    git(&world, &["commit", "--quiet", "--message", "history begins here"]);
    git(&world, &["branch", "--delete", "--force", "main"]);
    git(&world, &["checkout", "--quiet", commit(&world, "v2").as_str()]);
    git(&world, &["tag", "--delete", "v1", "v2", "v3-bad", "last-stable"]);
    git(&world, &["reflog", "expire", "--expire=now", "--all"]);
    git(&world, &["gc", "--quiet", "--prune=now"]);
    world.rollback(&["--force"]).expect(0);
    assert_eq!(world.read("site/app.txt"), "v1");
}

#[test]
fn commits_that_nothing_holds_any_more_are_noticed_before_they_are_needed() {
    let world = world("");
    world.deploy("v1").expect(0);
    world.deploy("v2").expect(0);
    let refs = git(&world, &["for-each-ref", "--format=%(refname)", "refs/backout"]);
    for name in refs.lines() {
        git(&world, &["update-ref", "-d", name]);
    }
    let said = world.run(&["doctor"]);
    let said = format!("{}{}", said.stdout, said.stderr);
    assert!(said.contains("not ready") && said.contains("is not kept"), "{said}");
}

#[test]
fn a_dirty_tree_is_refused_unless_lifted() {
    let world = world("");
    world.deploy("v1").expect(0);
    world.write("site/app.txt", "changed by hand");
    let ran = world.deploy("v2").expect(4);
    assert!(
        ran.stderr.contains("app.txt") && ran.stderr.contains("nothing_in_the_way"),
        "{}",
        ran.stderr
    );
    assert_eq!(world.read("site/app.txt"), "changed by hand");
    let ran = world
        .run(&["deploy", "--version", "v2", "--yes", "--override", "nothing_in_the_way"])
        .expect(0);
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains("git stash apply"), "{}", ran.stderr);
    assert_eq!(world.read("site/app.txt"), "v2");
}

#[test]
fn what_was_there_before_is_adopted_and_gone_back_to() {
    let world = world("");
    world.run(&["adopt", "--yes"]).expect(0);
    assert_eq!(world.status()["version"], "v1");
    world.deploy("v3-bad").expect(10);
    assert_eq!(world.read("site/app.txt"), "v1");
}

#[test]
fn a_first_deployment_that_fails_leaves_what_was_there() {
    let world = world("");
    git(&world, &["checkout", "--quiet", "-B", "main", "v1"]);
    world.deploy("v3-bad").expect(1);
    assert_eq!(world.read("site/app.txt"), "v1");
    assert_eq!(git(&world, &["rev-parse", "--abbrev-ref", "HEAD"]), "main");
}

#[test]
fn a_name_that_is_no_commit_changes_nothing() {
    let world = world("");
    let ran = world.deploy("v9");
    assert!(ran.code == Some(1) || ran.code == Some(4), "{ran:?}");
    assert!(ran.stderr.contains("no branch, tag or commit has that name"), "{}", ran.stderr);
    assert_eq!(world.read("site/app.txt"), "v1");
    assert!(world.status()["deployment"].is_null());
}

#[test]
fn a_move_whose_command_was_killed_is_finished_or_taken_back() {
    let world = world(
        ", post_checkout: [sh, -c, \"echo $BACKOUT_VERSION >> ../moves; test -e ../go || sleep 60\"]",
    );
    world.write("go", "");
    world.deploy("v1").expect(0);
    std::fs::remove_file(world.folder().join("go")).unwrap();
    let deploy = world.deploying("v2");
    wait_until("the command after the move", || world.read("moves").ends_with("v2\n"));
    deploy.signal(Signal::KILL);
    deploy.wait();
    world.write("go", "");
    let ran = world.run(&["recover", "--yes"]);
    assert!(matches!(ran.code, Some(0 | 10)), "{ran:?}");
    let status = world.status();
    assert_eq!(status["operation"], json!(null));
    assert_eq!(status["version"].as_str(), Some(world.read("site/app.txt").as_str()));
}

#[test]
fn with_one_deployment_the_way_back_is_what_was_there_before_it() {
    let world = world("");
    world.deploy("v2").expect(0);
    let before = commit(&world, "v1");
    let how = format!("commit {} (\"v1\"), which was checked out before", &before[..12]);
    world.run(&["rollback", "--dry-run"]).expect(0).says(&how);
    assert_eq!(world.read("site/app.txt"), "v2");
    // So says `status`, where no deployment ever had it.
    let shown = world.run(&["status"]).expect(0).stdout;
    assert!(shown.contains(&before[..12]) && shown.contains("which was checked out"), "{shown}");
    let status = world.status();
    let ready = &status["rollback_readiness"];
    assert_eq!((&ready["ready"], &ready["deployment"]), (&json!(true), &json!(null)), "{status}");
    assert!(ready["found"].as_str().unwrap().contains(&how), "{status}");
    git(&world, &["branch", "--force", "main", "v2"]);
    git(&world, &["tag", "--delete", "v1"]);
    world.rollback(&["--force"]).expect(0).says(&how);
    assert_eq!(world.read("site/app.txt"), "v1");
    let label = before[..7].to_owned();
    assert_eq!(
        world.story(),
        [format!("#2 rollback {label} baking"), "#1 deploy v2 rolled_back rejected".to_owned()]
    );
    // Nobody has seen it run here before: it bakes. The record says how it was chosen, and the commit is kept from now on.
    let record = world.run(&["inspect", "#2", "--format", "json"]).expect(0).stdout;
    assert!(record.contains("checked out before the first deployment"), "{record}");
    let kept = git(&world, &["for-each-ref", "--format=%(refname)", "refs/backout"]);
    assert!(kept.contains(&format!("keep/{before}")), "{kept}");
    // Nothing came before it, and what was rolled back from is not offered.
    world.rollback(&["--force"]).expect(4).says("nothing to go back to");
}

#[test]
fn what_was_adopted_goes_back_to_the_marker_else_to_the_first_parent() {
    let world = world("");
    git(&world, &["checkout", "--quiet", "v2"]);
    world.run(&["adopt", "--yes"]).expect(0);
    git(&world, &["tag", "--force", "last-stable", "v3-bad"]);
    let ran = world.run(&["rollback", "--dry-run"]).expect(0);
    ran.says("(\"v3-bad\"), which the tag last-stable names");
    git(&world, &["tag", "--delete", "last-stable"]);
    world.rollback(&["--force"]).expect(0).says("the first parent of what is checked out");
    assert_eq!(world.read("site/app.txt"), "v1");
    assert_eq!(world.story(), ["#1 rollback v1 baking", "#0 adopt v2 rolled_back rejected"]);
    wait_until("its bake time is over", || {
        world.run(&["recover", "--yes"]).expect(0);
        world.story()[0] == "#1 rollback v1 stable"
    });
    assert_eq!(commit(&world, "last-stable"), commit(&world, "v1"));
}

/// Everything of ours in the repository but the keepers of one environment, and what its tree holds.
fn things_of(world: &World, environment: &str, folder: &str) -> (String, String) {
    let refs =
        git(world, &["for-each-ref", "--format=%(refname) %(objectname)", "refs/backout/site"]);
    let own = format!("refs/backout/site/{environment}/");
    let refs: Vec<&str> = refs.lines().filter(|name| name.starts_with(&own)).collect();
    (refs.join("\n"), world.read(&format!("{folder}/app.txt")))
}

#[test]
fn two_environments_in_one_repository_leave_each_other_alone() {
    let world = world("");
    git(&world, &["worktree", "add", "--quiet", "--detach", "../stage", "v1"]);
    let text = world.read("backout.yaml")
        + "rollback: { keep: 1 }\nenvironments:\n  production: {}\n  staging: { target: { git: { repository: stage } } }\n";
    // Here it is only about whose things are whose.
    let text = text.replace("[./check.sh]", "[\"true\"]");
    world.write("backout.yaml", &text);
    let on = |environment: &str, args: &[&str]| {
        world.run(&[&["-e", environment, "--yes"], args].concat()).expect(0)
    };
    on("production", &["deploy", "--version", "v1"]);
    on("production", &["deploy", "--version", "v2"]);
    let production = things_of(&world, "production", "site");
    assert_eq!(commit(&world, "last-stable"), commit(&world, "v2"));
    for version in ["v3-bad", "v1", "v2", "v3-bad"] {
        on("staging", &["deploy", "--version", version]);
    }
    on("staging", &["rollback", "--force"]);
    assert_eq!(world.read("stage/app.txt"), "v2");
    assert_eq!(things_of(&world, "production", "site"), production);
    assert_eq!(commit(&world, "last-stable"), commit(&world, "v2"));
    assert_eq!(commit(&world, "last-stable-site-staging"), commit(&world, "v2"));
    let staging = things_of(&world, "staging", "stage");
    on("production", &["rollback", "--force"]);
    on("production", &["down"]);
    assert_eq!(things_of(&world, "staging", "stage"), staging);
    assert_eq!(commit(&world, "last-stable-site-staging"), commit(&world, "v2"));
    // One's working tree is not the other's.
    let text = world.read("backout.yaml").replace("repository: stage", "repository: site");
    world.write("backout.yaml", &text);
    on("production", &["deploy", "--version", "v1"]);
    let ran = world.run(&["-e", "staging", "deploy", "--version", "v3-bad", "--yes"]);
    assert!(ran.code != Some(0) && ran.stderr.contains("belongs to site/production"), "{ran:?}");
    assert_eq!(world.read("site/app.txt"), "v1");
}

#[test]
fn a_plan_that_nobody_has_agreed_to_fetches_nothing() {
    let world = world(", remote: origin, protocols: [file]");
    let url = world.folder().join("origin.git").display().to_string();
    git(&world, &["clone", "--quiet", "--bare", ".", &url]);
    git(&world, &["remote", "add", "origin", &format!("file://{url}")]);
    git(&world, &["switch", "--quiet", "--create", "next"]);
    world.write("site/app.txt", "v4");
    git(&world, &["commit", "--quiet", "--all", "--message", "v4"]);
    let newest = commit(&world, "next");
    git(&world, &["push", "--quiet", &url, "next"]);
    git(&world, &["checkout", "--quiet", "v1"]);
    git(&world, &["branch", "--quiet", "--delete", "--force", "next"]);
    let before = git(&world, &["for-each-ref"]);
    world.run(&["deploy", "--version", "next", "--dry-run"]).expect(0);
    assert_eq!(git(&world, &["for-each-ref"]), before);
    assert!(!world.folder().join("site/.git/FETCH_HEAD").exists());
    world.deploy("next").expect(0);
    assert_eq!((world.read("site/app.txt").as_str(), commit(&world, "HEAD")), ("v4", newest));
}

/// The same behind a link.
fn linked() -> World {
    let world = world(", current: served/current");
    world.script("check.sh", "#!/bin/sh\n! grep -q bad served/current/app.txt\n");
    world
}

#[test]
fn a_bad_release_behind_a_link_is_taken_back_and_old_worktrees_go() {
    let world = linked();
    world.deploy("v1").expect(0);
    assert_eq!(world.read("served/current/app.txt"), "v1");
    world.deploy("v2").expect(0);
    world.deploy("v3-bad").expect(10);
    assert_eq!(world.read("served/current/app.txt"), "v2");
    let status = world.status();
    assert!(status.to_string().contains("worktree_ready"), "{status}");
    world.rollback(&["--force"]).expect(0);
    assert_eq!(world.read("served/current/app.txt"), "v1");
    assert_eq!(world.read("site/app.txt"), "v1", "the repository's own tree is left alone");
    // Those of releases that nobody goes back to any more are gone.
    let bad = commit(&world, "v3-bad");
    world.deploy("v2").expect(0);
    assert!(!world.folder().join(format!("served/releases/site.production/{bad}")).exists());
}

#[test]
fn changes_in_the_worktree_of_the_way_back_refuse_it_unless_lifted() {
    let world = linked();
    world.deploy("v1").expect(0);
    world.deploy("v2").expect(0);
    let old = format!("served/releases/site.production/{}/app.txt", commit(&world, "v1"));
    world.write(&old, "changed by hand");
    let shown = world.run(&["status", "--check", "--format", "json"]).expect(0).stdout;
    assert!(shown.contains("has changes that no commit holds: app.txt"), "{shown}");
    world.rollback(&["--force"]).expect(4).says("worktree_ready");
    assert_eq!(world.read("served/current/app.txt"), "v2");
    world.rollback(&["--force", "--override", "worktree_ready"]).expect(0);
    assert_eq!(world.read("served/current/app.txt"), "changed by hand");
}

#[test]
fn a_switch_whose_command_was_killed_is_finished_or_taken_back() {
    let world = world(
        ", current: served/current, post_checkout: [sh, -c, \"cd ../../../..; echo $BACKOUT_VERSION >> moves; test -e go || \
         sleep 60\"]",
    );
    world.script("check.sh", "#!/bin/sh\ntest -s served/current/app.txt\n");
    world.write("go", "");
    world.deploy("v1").expect(0);
    std::fs::remove_file(world.folder().join("go")).unwrap();
    let deploy = world.deploying("v2");
    wait_until("the command after the switch", || world.read("moves").ends_with("v2\n"));
    deploy.signal(Signal::KILL);
    deploy.wait();
    world.write("go", "");
    let ran = world.run(&["recover", "--yes"]);
    assert!(matches!(ran.code, Some(0 | 10)), "{ran:?}");
    let status = world.status();
    assert_eq!(status["operation"], json!(null));
    let live = world.read("served/current/app.txt");
    assert_eq!(status["version"].as_str(), Some(live.as_str()));
}
