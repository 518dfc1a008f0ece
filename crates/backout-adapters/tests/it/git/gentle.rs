//! Moves that cost one call of git where the tree is as the last one left it, and lose nothing where it is not.

use std::time::Duration;

use backout_core::model::{GitSpec, TargetSpec};
use backout_core::ports::{ErrorClass, Running};
use backout_testkit::fixtures::release;

use super::world::Repository;

/// Two versions that share `same.txt`, the first one running.
async fn two_alike() -> Repository {
    let repository = Repository::new();
    repository.write("same.txt", "of every version");
    for label in ["w1", "w2"] {
        repository.write("app.txt", label);
        repository.commit(label);
        repository.git(&["tag", label]);
    }
    let w1 = repository.release("w1").await;
    repository.start(&w1, 1).await;
    repository
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_asks_git_no_more_than_it_must() {
    let repository = two_alike().await;
    let (w1, w2) = (repository.release("w1").await, repository.release("w2").await);
    let log = repository.beside("calls");
    let target = repository.target_with_git("echo \"$*\" >> ../calls; exec \"$GIT\" \"$@\"");
    let mut calls = Vec::new();
    for (release, number, restore) in
        [(&w2, 2, false), (&w1, 3, true), (&w2, 4, false), (&w1, 5, true)]
    {
        repository.start_by(&target, release, number, restore).await.unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(&log).unwrap();
        calls.push(text.lines().map(str::to_owned).collect::<Vec<_>>());
    }
    // The first one that goes back claims the name for people too.
    let counts: Vec<usize> = calls.iter().map(Vec::len).collect();
    assert!(counts[0] <= 2 && counts[1] <= 5 && counts[2] <= 2 && counts[3] <= 2, "{calls:#?}");
    assert_eq!(repository.git(&["rev-parse", "last-stable"]), repository.git(&["rev-parse", "w1"]));
    assert_eq!(repository.observe(&w1).await.deployment, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_git_lets_be_are_set_aside_all_the_same() {
    let repository = two_alike().await;
    let w2 = repository.release("w2").await;
    repository.write("same.txt", "changed by hand");
    repository.write("staged.txt", "never committed");
    repository.git(&["add", "staged.txt"]);
    let receipt = repository.start(&w2, 2).await;
    assert_eq!(
        (repository.read("same.txt"), repository.read("app.txt")),
        ("of every version".into(), "w2".into())
    );
    assert!(!repository.has("staged.txt"));
    let warning = &receipt.warnings[0];
    assert!(warning.contains("same.txt") && warning.contains("staged.txt"), "{warning}");
    let saved = warning.split('`').find_map(|text| text.strip_prefix("git stash apply ")).unwrap();
    repository.git(&["stash", "apply", "--quiet", saved]);
    assert_eq!(repository.read("same.txt"), "changed by hand");
    assert_eq!(repository.read("staged.txt"), "never committed");
}

/// Git tells of changes that it keeps, of whatever kind: only then is looked for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_any_kind_that_git_lets_be_is_set_aside() {
    let repository = two_alike().await;
    let path = repository.tree().join("same.txt");
    let mut number = 1;
    for kind in ["staged", "staged and put back", "deleted", "executable", "out of the index"] {
        match kind {
            "deleted" => std::fs::remove_file(&path).unwrap(),
            "executable" => {
                use std::os::unix::fs::PermissionsExt as _;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            "out of the index" => {
                repository.git(&["rm", "--quiet", "--cached", "same.txt"]);
            }
            _ => {
                repository.write("same.txt", "changed by hand");
                repository.git(&["add", "same.txt"]);
                if kind == "staged and put back" {
                    repository.write("same.txt", "of every version");
                }
            }
        }
        number += 1;
        let wanted = repository.release(if number % 2 == 0 { "w2" } else { "w1" }).await;
        let receipt = repository.start(&wanted, number).await;
        assert!(receipt.warnings[0].contains("same.txt"), "{kind}: {receipt:?}");
        assert_eq!(repository.git(&["status", "--porcelain", "-uno"]), "", "{kind}");
        assert_eq!(repository.read("same.txt"), "of every version", "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_git_refuses_to_write_over_are_set_aside() {
    let repository = two_alike().await;
    let w2 = repository.release("w2").await;
    repository.write("app.txt", "changed by hand");
    let receipt = repository.start(&w2, 2).await;
    assert_eq!(repository.read("app.txt"), "w2");
    assert!(receipt.warnings[0].contains("app.txt"), "{receipt:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_the_way_of_folders_are_kept_and_the_other_way_round_and_ignored_ones() {
    let repository = two_alike().await;
    repository.git(&["checkout", "--quiet", "main"]);
    for path in ["ignored.txt", "deep/in/here.txt", "flat"] {
        let at = repository.tree().join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, "of w3").unwrap();
    }
    repository.commit("w3");
    repository.git(&["tag", "w3"]);
    repository.git(&["checkout", "--quiet", "w1"]);
    repository.write(".git/info/exclude", "ignored.txt\n");
    repository.write("ignored.txt", "nobody's 1");
    repository.write("deep", "nobody's 2");
    std::fs::create_dir(repository.tree().join("flat")).unwrap();
    repository.write("flat/notes", "nobody's 3");
    repository.write("elsewhere", "in nobody's way");
    let w3 = repository.release("w3").await;
    let receipt = repository.start(&w3, 2).await;
    assert_eq!(repository.read("deep/in/here.txt"), "of w3");
    assert_eq!(
        (repository.read("flat"), repository.read("ignored.txt")),
        ("of w3".into(), "of w3".into())
    );
    assert_eq!(repository.read("elsewhere"), "in nobody's way");
    let place = repository.tree().join(".git/backout/set-aside/op_test");
    let kept = |name: &str| std::fs::read_to_string(place.join(name)).unwrap();
    assert_eq!(kept("ignored.txt"), "nobody's 1");
    assert_eq!((kept("deep"), kept("flat/notes")), ("nobody's 2".into(), "nobody's 3".into()));
    assert!(receipt.warnings[0].contains("flat/notes"), "{receipt:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_move_is_told_from_somebodys_work() {
    let repository = two_alike().await;
    let w2 = repository.release("w2").await;
    repository.write("same.txt", "changed by hand");
    // As a killed git leaves it: some files are written, the index is not.
    let script = "case \"$*\" in *checkout*) printf w2 > app.txt; : > .git/index.lock; : > ../half; exec sleep 600;; esac; exec \"$GIT\" \"$@\"";
    let target = repository.target_with_git(script);
    let began = async {
        while !repository.beside("half").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = repository.start_by(&target, &w2, 2, false) => panic!("{ended:?}"),
        () = began => (),
    }
    assert_eq!(repository.observe(&w2).await.running, Running::Unknown);
    let receipt = repository.start(&w2, 2).await;
    assert_eq!(
        (repository.read("app.txt"), repository.read("same.txt")),
        ("w2".into(), "of every version".into())
    );
    let warning = &receipt.warnings[0];
    assert!(warning.contains("same.txt") && !warning.contains("app.txt"), "{warning}");
    assert_eq!(receipt.warnings.len(), 1, "{receipt:?}");
    assert_eq!(repository.git(&["status", "--porcelain", "--untracked-files=no"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_lock_is_neither_removed_nor_taken_for_half_a_move() {
    let repository = two_alike().await;
    let (w1, w2) = (repository.release("w1").await, repository.release("w2").await);
    repository.write(".git/index.lock", "");
    for _ in 0..2 {
        let error = repository.start_with(&w2, 2, false).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Transient, "{error}");
        assert!(repository.has(".git/index.lock"), "it is theirs");
    }
    assert_eq!(repository.observe(&w1).await.release.as_ref(), Some(&w1.id));
    std::fs::remove_file(repository.tree().join(".git/index.lock")).unwrap();
    repository.start(&w2, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_gone_is_said_and_the_tree_stays_as_it_was() {
    let repository = two_alike().await;
    let w1 = repository.release("w1").await;
    let spec = GitSpec { commit: "0".repeat(40), ..repository.spec() };
    let gone = release("v9", TargetSpec::Git(spec));
    let error = repository.start_with(&gone, 2, false).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    assert!(error.message.contains("no longer has it"), "{error}");
    let seen = repository.observe(&w1).await;
    assert_eq!((seen.deployment, seen.release.as_ref()), (Some(1), Some(&w1.id)));
}
