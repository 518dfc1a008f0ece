//! What stands in the way, and what is cut short.

use std::sync::Arc;
use std::time::Duration;

use backout_core::ids::Slot;
use backout_core::model::GitSpec;
use backout_core::ports::{ErrorClass, Running, Target, TargetAction};
use backout_testkit::fixtures::{step_cx, unit};

use super::world::Repository;

#[tokio::test(flavor = "multi_thread")]
async fn a_dirty_tree_is_named_and_set_aside_only_when_it_must_be() {
    let repository = Repository::new();
    let v2 = repository.release("v2").await;
    repository.write("app.txt", "changed by hand");
    let found = repository.obstacles(&v2).await;
    assert!(found[0].contains("app.txt") && found[0].contains("commit or stash"), "{found:?}");
    let receipt = repository.start(&v2, 1).await;
    assert_eq!(repository.read("app.txt"), "v2");
    // The warning names the command that brings it back.
    let warning = &receipt.warnings[0];
    let command = warning.split('`').find(|text| text.starts_with("git stash apply")).unwrap();
    let saved = command.rsplit(' ').next().unwrap();
    repository.git(&["checkout", "--quiet", "v1"]);
    repository.git(&["stash", "apply", "--quiet", saved]);
    assert_eq!(repository.read("app.txt"), "changed by hand");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_the_way_are_moved_and_named() {
    let repository = Repository::new();
    let v2 = repository.release("v2").await;
    repository.write("only-v2.txt", "nobody's");
    repository.write("notes.txt", "in nobody's way");
    assert!(repository.obstacles(&v2).await.is_empty());
    let receipt = repository.start(&v2, 1).await;
    assert_eq!(repository.read("only-v2.txt"), "v2");
    assert_eq!(repository.read("notes.txt"), "in nobody's way");
    let place = repository.tree().join(".git/backout/set-aside/op_test/only-v2.txt");
    assert_eq!(std::fs::read_to_string(&place).unwrap(), "nobody's");
    assert!(receipt.warnings[0].contains("only-v2.txt"), "{receipt:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_was_cut_short_is_unknown_and_done_again() {
    let repository = Repository::new();
    let line = "echo x >> ../runs; test -e ../go || sleep 600";
    let post_checkout = ["sh", "-c", line].map(str::to_owned).to_vec();
    let spec = GitSpec { post_checkout, ..repository.spec() };
    let v2 = repository.try_release("v2", spec).await.unwrap();
    let action = TargetAction::Start {
        unit: unit(Slot::A),
        release: Arc::clone(&v2),
        deployment: 1,
        restore: false,
        revert: None,
        batch: None,
    };
    let cx = step_cx("start-1");
    let target = repository.target();
    let began = async {
        while !repository.beside("runs").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = target.apply(&action, &cx) => panic!("{ended:?}"),
        () = began => (),
    }
    let seen = repository.observe(&v2).await;
    assert_eq!(seen.running, Running::Unknown, "what is checked out does not say that it is done");
    // As a killed git leaves it.
    repository.write(".git/index.lock", "");
    std::fs::write(repository.beside("go"), "").unwrap();
    repository.start(&v2, 1).await;
    assert_eq!(repository.observe(&v2).await.release.as_ref(), Some(&v2.id));
    let runs = std::fs::read_to_string(repository.beside("runs")).unwrap();
    assert_eq!(runs, "x\nx\n");
    let sleeping = backout_adapters::host::procfs::descendants(&[std::process::id()]);
    assert!(sleeping.iter().all(|p| p.name != "sleep"), "{sleeping:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_of_somebody_elses_git_is_waited_for() {
    let repository = Repository::new();
    let v2 = repository.release("v2").await;
    repository.write(".git/index.lock", "");
    let error = repository.start_with(&v2, 1, false).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    assert!(repository.has(".git/index.lock"), "it is theirs");
    std::fs::remove_file(repository.tree().join(".git/index.lock")).unwrap();
    repository.start(&v2, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_says_so_and_can_be_gone_back_from() {
    let repository = Repository::new();
    let v1 = repository.release("v1").await;
    repository.start(&v1, 1).await;
    let line = "echo no room >&2; exit 3";
    let post_checkout = ["sh", "-c", line].map(str::to_owned).to_vec();
    let spec = GitSpec { post_checkout, ..repository.spec() };
    let v2 = repository.try_release("v2", spec).await.unwrap();
    let error = repository.start_with(&v2, 2, false).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent);
    assert!(error.message.contains("exit code 3") && error.message.contains("no room"), "{error}");
    repository.start_with(&v1, 3, true).await.unwrap();
    assert_eq!(repository.read("app.txt"), "v1");
    assert_eq!(repository.observe(&v1).await.release.as_ref(), Some(&v1.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_environments_tree_is_refused() {
    let repository = Repository::new();
    let v2 = repository.release("v2").await;
    repository.start(&v2, 1).await;
    let mut other = unit(Slot::A);
    other.key.environment = backout_core::ids::EnvironmentName::new("staging").unwrap();
    let found = repository.target().obstacles(&other, &v2).await.unwrap();
    assert!(found[0].contains("belongs to shop/production"), "{found:?}");
    let action = TargetAction::Start {
        unit: other,
        release: v2,
        deployment: 1,
        restore: false,
        revert: None,
        batch: None,
    };
    let error = repository.target().apply(&action, &step_cx("start")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_repository_is_said_so() {
    let repository = Repository::new();
    let spec = GitSpec { repository: "nowhere".to_owned(), ..repository.spec() };
    let error = repository.try_release("v1", spec).await.unwrap_err();
    assert!(error.message.contains("nowhere"), "{error}");
    let plain = repository.beside("plain");
    std::fs::create_dir(plain).unwrap();
    let spec = GitSpec { repository: "plain".to_owned(), ..repository.spec() };
    let error = repository.try_release("v1", spec).await.unwrap_err();
    assert!(error.message.contains("not a git repository"), "{error}");
}
