//! What becomes of links and worktrees by kills, by people and by full or closed disks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use backout_core::model::Severity;
use backout_core::ports::{ArtifactStore, ErrorClass, Running};
use backout_testkit::fixtures::step_cx;

use super::linked::Site;

async fn until_there(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_worktree_is_never_switched_to() {
    let site = Site::new();
    let (v1, v2) = (site.release("v1").await, site.release("v2").await);
    site.repository.start(&v1, 1).await;
    // Killed in the middle of writing files: some are there, one is half, and git's own record is.
    let script = "case \"$*\" in *\"worktree add\"*) \"$GIT\" \"$@\"; for at; do case $at in */releases/*) rm $at/only-v2.txt; \
                  printf v > $at/app.txt;; esac; done; : > ../half; exec sleep 600;; esac; exec \"$GIT\" \"$@\"";
    let target = site.repository.target_with_git(script);
    let half = site.repository.beside("half");
    tokio::select! {
        ended = site.repository.start_by(&target, &v2, 2, false) => panic!("{ended:?}"),
        () = until_there(&half) => (),
    }
    assert_eq!(site.app(), "v1");
    let path = site.worktree(&v2);
    assert_eq!(std::fs::read_to_string(path.join("app.txt")).unwrap(), "v");
    assert_eq!(site.restorable(&v2).await.status, Severity::Warning);
    let seen = site.repository.observe(&v1).await;
    assert_eq!((seen.running, seen.release.as_ref()), (Running::Yes, Some(&v1.id)));
    site.repository.start(&v2, 2).await;
    assert_eq!(site.app(), "v2");
    assert!(path.join("only-v2.txt").exists());
    assert_eq!(site.restorable(&v2).await.status, Severity::Pass);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_the_place_of_the_link_is_named_refused_and_left() {
    let site = Site::new();
    let (v1, v2) = (site.release("v1").await, site.release("v2").await);
    site.repository.start(&v1, 1).await;
    std::fs::remove_file(site.link()).unwrap();
    std::fs::create_dir(site.link()).unwrap();
    std::fs::write(site.link().join("upload"), "a user's").unwrap();
    let found = site.repository.obstacles(&v2).await;
    assert!(found[0].contains("is no link"), "{found:?}");
    assert_eq!(site.restorable(&v1).await.status, Severity::Error);
    let error = site.repository.start_with(&v2, 2, false).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    assert_eq!(std::fs::read_to_string(site.link().join("upload")).unwrap(), "a user's");
    assert_ne!(site.repository.observe(&v1).await.release.as_ref(), Some(&v1.id));
    site.repository.stop(&v1).await;
    assert!(site.link().join("upload").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_somebody_has_moved_is_named_before_it_is_taken_back() {
    let site = Site::new();
    let (v1, v2) = (site.release("v1").await, site.release("v2").await);
    site.repository.start(&v1, 1).await;
    let foreign = site.repository.beside("live/foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::remove_file(site.link()).unwrap();
    std::os::unix::fs::symlink("foreign", site.link()).unwrap();
    let found = site.repository.obstacles(&v2).await;
    assert!(found[0].contains("foreign") && found[0].contains("somebody moved it"), "{found:?}");
    let check = site.restorable(&v1).await;
    assert_eq!(check.status, Severity::Error);
    assert!(check.message.contains("foreign"), "{check:?}");
    let seen = site.repository.observe(&v1).await;
    assert_ne!(seen.release.as_ref(), Some(&v1.id));
    assert!(seen.tail.unwrap().contains("foreign"));
    // Whoever goes on all the same is told.
    let receipt = site.repository.start(&v2, 2).await;
    assert!(receipt.warnings.iter().any(|words| words.contains("foreign")), "{receipt:?}");
    assert!(site.app() == "v2" && foreign.is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worktree_that_somebody_has_removed_is_noticed_and_made_anew() {
    let site = Site::new();
    let (v1, v2) = (site.release("v1").await, site.release("v2").await);
    site.pin(&v1).await;
    site.repository.start(&v1, 1).await;
    site.repository.start(&v2, 2).await;
    std::fs::remove_dir_all(site.worktree(&v1)).unwrap();
    site.repository.git(&["tag", "--delete", "v1"]);
    let check = site.restorable(&v1).await;
    assert_eq!(check.status, Severity::Warning);
    assert!(check.message.contains("is made from the kept commit"), "{check:?}");
    let receipt = site.repository.start_with(&v1, 3, true).await.unwrap();
    assert_eq!(site.app(), "v1");
    assert!(receipt.warnings[0].contains("was not there"), "{receipt:?}");
    assert_eq!(site.restorable(&v1).await.status, Severity::Pass);
    // And the live one.
    std::fs::remove_dir_all(site.worktree(&v1)).unwrap();
    let seen = site.repository.observe(&v1).await;
    assert_eq!(seen.running, Running::No, "{seen:?}");
    site.repository.start(&v1, 3).await;
    assert_eq!(site.app(), "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_an_older_worktree_stand_against_going_back_and_are_never_lost() {
    let site = Site::new();
    let (v1, v2) = (site.release("v1").await, site.release("v2").await);
    site.repository.start(&v1, 1).await;
    site.repository.start(&v2, 2).await;
    let changed = site.worktree(&v1).join("app.txt");
    std::fs::write(&changed, "changed by hand").unwrap();
    let check = site.restorable(&v1).await;
    assert_eq!(check.status, Severity::Error);
    assert!(check.message.contains("app.txt"), "{check:?}");
    let found = site.repository.obstacles(&v1).await;
    assert!(found[0].contains("app.txt"), "{found:?}");
    assert!(site.repository.obstacles(&v2).await.is_empty());
    site.repository.start_with(&v1, 3, true).await.unwrap();
    assert_eq!(site.app(), "changed by hand");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_commit_in_a_worktree_is_not_taken_for_its_own() {
    let site = Site::new();
    let (v1, v2) = (site.release("v1").await, site.release("v2").await);
    site.repository.start(&v1, 1).await;
    site.repository.start(&v2, 2).await;
    let shown = site.worktree(&v1).display().to_string();
    site.repository.git(&["-C", &shown, "checkout", "--quiet", "v3"]);
    let check = site.restorable(&v1).await;
    assert!(check.status == Severity::Error && check.message.contains("checked out there"));
    let error = site.repository.start_with(&v1, 3, true).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    assert_eq!(site.app(), "v2");
    let commit = site.repository.git(&["rev-parse", "v1"]);
    site.repository.git(&["-C", &shown, "checkout", "--quiet", "--detach", &commit]);
    site.repository.start_with(&v1, 3, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clean_worktrees_that_nobody_needs_are_removed() {
    let site = Site::new();
    let repository = &site.repository;
    let mut releases = Vec::new();
    for (label, text) in [("c1", "1"), ("c2", "2"), ("c3", "3"), ("c4", "4"), ("c5", "5")] {
        repository.write("app.txt", text);
        repository.write(".gitignore", "built\n");
        repository.commit(label);
        repository.git(&["tag", label]);
        let release = site.release(label).await;
        site.pin(&release).await;
        releases.push(release);
    }
    let [plain, dirty, grown, live, kept] = &releases[..] else { panic!() };
    repository.start(live, 1).await;
    std::fs::write(site.worktree(plain).join("built"), "by its command").unwrap();
    std::fs::write(site.worktree(dirty).join("app.txt"), "changed by hand").unwrap();
    std::fs::write(site.worktree(grown).join("upload"), "a user's").unwrap();
    let foreign = repository.beside("live/releases/shop.production/somebody-elses");
    std::fs::create_dir(&foreign).unwrap();
    let keep = vec![kept.content.artifacts[0].digest.clone()];
    site.artifacts().prune(&keep, &step_cx("prune")).await.unwrap();
    assert!(!site.worktree(plain).exists(), "what git ignores can be built again");
    for there in [dirty, grown, live, kept] {
        assert!(site.worktree(there).exists());
    }
    assert!(foreign.exists());
    let listed = repository.git(&["worktree", "list"]);
    let gone = site.worktree(plain);
    assert!(!listed.contains(&*gone.file_name().unwrap().to_string_lossy()), "{listed}");
    // Cleaned up by its owner, it goes with the next one.
    std::fs::remove_file(site.worktree(grown).join("upload")).unwrap();
    site.artifacts().prune(&keep, &step_cx("prune")).await.unwrap();
    assert!(!site.worktree(grown).exists() && site.worktree(dirty).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_closed_or_full_leaves_the_link_where_it_led() {
    let site = Site::new();
    let (v1, v2) = (site.release("v1").await, site.release("v2").await);
    site.repository.start(&v1, 1).await;
    {
        let _closed = Mounted::read_only(site.repository.beside("live"));
        let error = site.repository.start_with(&v2, 2, false).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Transient, "{error}");
        assert_eq!(site.app(), "v1");
        assert_eq!(site.repository.observe(&v1).await.release.as_ref(), Some(&v1.id));
    }
    {
        let releases = site.repository.beside("live/releases/full");
        std::fs::create_dir_all(&releases).unwrap();
        let _full = Mounted::full(releases);
        let mut spec = site.spec();
        spec.link.as_mut().unwrap().releases = "live/releases/full".to_owned();
        let elsewhere = site.repository.try_release("v2", spec).await.unwrap();
        let error = site.repository.start_with(&elsewhere, 2, false).await.unwrap_err();
        assert_ne!(error.class, ErrorClass::Unknown, "{error}");
        assert_eq!(site.app(), "v1");
    }
    site.repository.start(&v2, 3).await;
    assert_eq!(site.app(), "v2");
}

/// Something mounted over a folder, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn read_only(folder: PathBuf) -> Self {
        mount(&["--bind", &folder.display().to_string()], &folder);
        mount(&["-o", "remount,ro,bind"], &folder);
        Self(folder)
    }

    /// So small that its only block is taken.
    fn full(folder: PathBuf) -> Self {
        mount(&["-t", "tmpfs", "-o", "size=4k", "none"], &folder);
        std::fs::write(folder.join("taken"), [0; 4096]).unwrap();
        Self(folder)
    }
}

fn mount(args: &[&str], at: &Path) {
    assert!(Command::new("mount").args(args).arg(at).status().unwrap().success());
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
