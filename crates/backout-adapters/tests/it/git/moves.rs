//! From commit to commit.

use backout_core::model::{GitMove, GitPush, GitSpec};
use backout_core::ports::{ArtifactStore, Running, Target};
use backout_testkit::fixtures::{step_cx, unit};
use backout_testkit::target_suite::check_target;

use super::world::{Repository, run_git, with_files};

#[tokio::test(flavor = "multi_thread")]
async fn the_git_target_obeys_the_suite() {
    check_target(&Repository::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_deployment_that_is_removed_brings_the_branch_back() {
    let repository = Repository::new();
    let v2 = repository.release("v2").await;
    repository.start(&v2, 1).await;
    assert_eq!(repository.read("app.txt"), "v2");
    assert!(repository.has("only-v2.txt") && !repository.has("only-v1.txt"));
    assert_eq!(repository.git(&["rev-parse", "--abbrev-ref", "HEAD"]), "HEAD", "no branch moves");
    repository.stop(&v2).await;
    assert_eq!(repository.read("app.txt"), "v1");
    assert_eq!(repository.git(&["rev-parse", "--abbrev-ref", "HEAD"]), "main");
    assert_eq!(repository.observe(&v2).await.running, Running::No);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_later_stays_where_it_is() {
    let repository = Repository::new();
    let (v2, v3) = (repository.release("v2").await, repository.release("v3").await);
    repository.start(&v2, 1).await;
    repository.start(&v3, 2).await;
    repository.stop(&v3).await;
    assert_eq!(repository.read("app.txt"), "v3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_moves_the_branch_and_comes_back() {
    let repository = Repository::new();
    let before = repository.git(&["rev-parse", "main"]);
    let spec = GitSpec { by: GitMove::Reset, ..repository.spec() };
    let v2 = repository.try_release("v2", spec).await.unwrap();
    repository.start(&v2, 1).await;
    assert_eq!(repository.git(&["rev-parse", "main"]), repository.git(&["rev-parse", "v2"]));
    repository.stop(&v2).await;
    assert_eq!(repository.git(&["rev-parse", "main"]), before);
    assert_eq!(repository.git(&["rev-parse", "--abbrev-ref", "HEAD"]), "main");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_after_a_move_is_told_and_runs_once() {
    let repository = Repository::new();
    let line = "echo \"$BACKOUT_VERSION $COMMIT_SHA $(cat app.txt)\" >> ../log";
    let post_checkout = ["sh", "-c", line].map(str::to_owned).to_vec();
    let spec = GitSpec { post_checkout, ..repository.spec() };
    let v2 = repository.try_release("v2", spec).await.unwrap();
    repository.start(&v2, 1).await;
    repository.start(&v2, 1).await;
    let commit = repository.git(&["rev-parse", "v2"]);
    let log = std::fs::read_to_string(repository.beside("log")).unwrap();
    assert_eq!(log, format!("v2 {commit} v2\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_checks_out_is_no_release() {
    let repository = Repository::new();
    let v2 = repository.release("v2").await;
    repository.start(&v2, 1).await;
    repository.git(&["checkout", "--quiet", "v3"]);
    let seen = repository.observe(&v2).await;
    assert_eq!((seen.running, seen.release), (Running::Yes, None));
    assert!(seen.version.unwrap().as_str().len() == 12);
    repository.start(&v2, 1).await;
    assert_eq!(repository.read("app.txt"), "v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_can_be_adopted() {
    let repository = Repository::new();
    let asked = backout_testkit::fixtures::release(
        "adopt",
        backout_core::model::TargetSpec::Git(repository.spec()),
    );
    let seen = repository.observe(&asked).await;
    assert_eq!(seen.version.unwrap().as_str(), "v1");
    assert_eq!(repository.git(&["status", "--porcelain"]), "", "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_stable_commit_is_tagged() {
    let repository = Repository::new();
    let v2 = repository.release("v2").await;
    repository.start(&v2, 1).await;
    let unit = unit(backout_core::ids::Slot::A);
    repository.target().mark_stable(&unit, &v2).await.unwrap();
    repository.target().mark_stable(&unit, &v2).await.unwrap();
    assert_eq!(repository.git(&["rev-parse", "last-stable"]), repository.git(&["rev-parse", "v2"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_kept_though_history_is_rewritten() {
    let repository = Repository::new();
    let v2 = repository.release("v2").await;
    let digest = v2.content.artifacts[0].digest.clone();
    let artifacts = with_files(&repository);
    assert!(artifacts.verify(&digest).await.is_err(), "nothing holds it yet");
    artifacts.pin("tree", &digest).await.unwrap();
    artifacts.pin("tree", &digest).await.unwrap();
    repository.git(&["tag", "--delete", "v2", "v3"]);
    repository.git(&["reflog", "expire", "--expire=now", "--all"]);
    repository.git(&["gc", "--quiet", "--prune=now"]);
    artifacts.verify(&digest).await.unwrap();
    repository.start(&v2, 1).await;
    assert_eq!(repository.read("app.txt"), "v2");

    assert!(
        artifacts.prune(std::slice::from_ref(&digest), &step_cx("prune")).await.unwrap().is_empty()
    );
    assert_eq!(
        artifacts.prune(&[], &step_cx("prune")).await.unwrap(),
        std::slice::from_ref(&digest)
    );
    let error = artifacts.verify(&digest).await.unwrap_err();
    assert!(error.message.contains("is not kept"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_with_missing_files_is_not_ready() {
    let repository = Repository::new();
    let v2 = repository.release("v2").await;
    let digest = v2.content.artifacts[0].digest.clone();
    repository.artifacts().pin("tree", &digest).await.unwrap();
    let blob = repository.git(&["rev-parse", "v2:only-v2.txt"]);
    let object = repository.tree().join(".git/objects").join(&blob[..2]).join(&blob[2..]);
    std::fs::remove_file(object).unwrap();
    let error = repository.artifacts().verify(&digest).await.unwrap_err();
    assert!(error.message.contains("missing"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_of_a_remote_follows_unless_somebody_else_moved_it() {
    let repository = Repository::new();
    let remote = repository.beside("remote.git");
    run_git(&repository.beside(""), &["init", "--quiet", "--bare", "remote.git"]);
    repository.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    let push = Some(GitPush { remote: "origin".to_owned(), branch: "production".to_owned() });
    let protocols = vec!["file".to_owned()];
    let spec = GitSpec { push, protocols, ..repository.spec() };
    let release = |label| repository.try_release(label, spec.clone());
    let (v1, v2, v3) =
        (release("v1").await.unwrap(), release("v2").await.unwrap(), release("v3").await.unwrap());
    let there = || run_git(&remote, &["rev-parse", "production"]);
    repository.start(&v2, 1).await;
    assert_eq!(there(), repository.git(&["rev-parse", "v2"]));
    // Back: not a fast-forward, but nobody else has moved it.
    repository.start_with(&v1, 2, true).await.unwrap();
    assert_eq!(there(), repository.git(&["rev-parse", "v1"]));
    repository.git(&["push", "--quiet", "--force", "origin", "v3^{}:refs/heads/production"]);
    let error = repository.start_with(&v2, 3, false).await.unwrap_err();
    assert!(error.message.contains("somebody else has moved it"), "{error}");
    assert_eq!(there(), repository.git(&["rev-parse", "v3"]), "their work is left alone");
    // Going back is not held up by it.
    let receipt = repository.start_with(&v1, 4, true).await.unwrap();
    assert!(receipt.warnings[0].contains("does not follow"), "{receipt:?}");
    assert_eq!(repository.read("app.txt"), "v1");
    drop(v3);
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_follow() {
    let repository = Repository::new();
    let other = Repository::new();
    let url = format!("file://{}", other.tree().display());
    repository.git(&["submodule", "--quiet", "add", &url, "lib"]);
    repository.commit("with a library");
    repository.git(&["tag", "with-lib"]);
    run_git(&repository.tree().join("lib"), &["checkout", "--quiet", "v2"]);
    repository.commit("a newer library");
    repository.git(&["tag", "newer-lib"]);
    let protocols = vec!["file".to_owned()];
    let spec = GitSpec { submodules: true, protocols, ..repository.spec() };
    let newer = repository.try_release("newer-lib", spec.clone()).await.unwrap();
    let older = repository.try_release("with-lib", spec).await.unwrap();
    repository.start(&newer, 1).await;
    assert_eq!(repository.read("lib/app.txt"), "v2");
    repository.start_with(&older, 2, true).await.unwrap();
    assert_eq!(repository.read("lib/app.txt"), "v1");
}
