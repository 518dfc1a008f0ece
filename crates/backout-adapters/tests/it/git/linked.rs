//! A worktree for each release, and a link to the one that is live.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_adapters::git::Git;
use backout_adapters::target::worktrees;
use backout_core::ids::{EnvironmentName, Slot, Unit};
use backout_core::model::{GitLink, GitSpec, ReadinessCheck, Release, Severity, TargetSpec};
use backout_core::ports::{
    ArtifactStore, ErrorClass, PartsOf, Running, StepCx, Target, TargetAction,
};
use backout_testkit::fixtures::{key, release, step_cx, unit, version, web};
use backout_testkit::target_suite::{TargetBench, check_target};

use super::world::{Repository, env, run_git};

/// A repository whose releases are served from `live/current`.
pub struct Site {
    pub repository: Repository,
}

impl Site {
    pub fn new() -> Self {
        Self { repository: Repository::new() }
    }

    pub fn spec(&self) -> GitSpec {
        let (current, releases) = ("live/current".to_owned(), "live/releases".to_owned());
        GitSpec { link: Some(GitLink { current, releases }), ..self.repository.spec() }
    }

    pub async fn release(&self, label: &str) -> Arc<Release> {
        self.repository.try_release(label, self.spec()).await.unwrap()
    }

    pub fn link(&self) -> PathBuf {
        self.repository.beside("live/current")
    }

    pub fn worktree(&self, release: &Release) -> PathBuf {
        let TargetSpec::Git(spec) = &release.content.services[&web()].target else { panic!() };
        self.repository.beside("live/releases/shop.production").join(&spec.commit)
    }

    pub fn app(&self) -> String {
        std::fs::read_to_string(self.link().join("app.txt")).unwrap()
    }

    pub async fn restorable(&self, release: &Release) -> ReadinessCheck {
        let target = self.repository.target();
        target.restorable(&unit(Slot::A), release).await.unwrap().remove(0)
    }

    pub fn artifacts(&self) -> backout_adapters::artifact::GitArtifacts {
        let git = Git::new(self.repository.tree(), &env(), &[]);
        let spec = self.spec();
        let link = spec.link.clone().unwrap();
        let folder = self.repository.beside("");
        let made = worktrees(&folder, &key(), (&spec, &link), git);
        self.repository.artifacts().with_worktrees(vec![(PathBuf::from("tree"), made)])
    }

    pub async fn pin(&self, release: &Release) {
        self.artifacts().pin("tree", &release.content.artifacts[0].digest).await.unwrap();
    }
}

#[async_trait]
impl TargetBench for Site {
    fn target(&self) -> Arc<dyn Target> {
        Arc::new(self.repository.target())
    }
    fn unit(&self, slot: Slot) -> Unit {
        unit(slot)
    }
    async fn release(&self, version: &str) -> Arc<Release> {
        Site::release(self, version).await
    }
    async fn impossible(&self) -> Option<Arc<Release>> {
        let spec = GitSpec { commit: "0".repeat(40), ..self.spec() };
        Some(release("v9", TargetSpec::Git(spec)))
    }
    fn cx(&self, step: &str) -> StepCx {
        step_cx(step)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_worktrees_obeys_the_suite() {
    check_target(&Site::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_stand_side_by_side_and_going_back_asks_git_nothing() {
    let site = Site::new();
    let repository = &site.repository;
    let (v1, v2) = (site.release("v1").await, site.release("v2").await);
    site.pin(&v1).await;
    site.pin(&v2).await;
    assert!(!site.link().exists(), "keeping a commit moves nothing");
    repository.start(&v1, 1).await;
    assert_eq!(site.app(), "v1");
    repository.start(&v2, 2).await;
    assert_eq!(site.app(), "v2");
    // Moved together with its folder, it still leads there.
    assert!(std::fs::read_link(site.link()).unwrap().starts_with("releases/shop.production"));
    assert!(site.worktree(&v1).join("only-v1.txt").exists());
    assert_eq!(repository.read("app.txt"), "v1", "the repository's own tree is left alone");
    repository.start_with(&v1, 3, true).await.unwrap();
    repository.start(&v2, 4).await;
    let target = repository.target_with_git("echo \"$*\" >> ../calls; exec \"$GIT\" \"$@\"");
    repository.start_by(&target, &v1, 5, true).await.unwrap();
    repository.start_by(&target, &v2, 6, false).await.unwrap();
    repository.start_by(&target, &v1, 7, true).await.unwrap();
    let calls = std::fs::read_to_string(repository.beside("calls")).unwrap_or_default();
    assert_eq!(calls, "");
    let seen = repository.observe(&v1).await;
    assert_eq!((site.app().as_str(), seen.deployment), ("v1", Some(7)));
    assert_eq!(seen.release.as_ref(), Some(&v1.id));
    assert_eq!(repository.git(&["rev-parse", "last-stable"]), repository.git(&["rev-parse", "v1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_after_a_switch_runs_in_the_worktree() {
    let site = Site::new();
    let line =
        "echo \"$BACKOUT_VERSION $(cat app.txt) $(cat ../../../current/app.txt)\" >> ../../../log";
    let post_checkout = ["sh", "-c", line].map(str::to_owned).to_vec();
    let spec = GitSpec { post_checkout, ..site.spec() };
    let v2 = site.repository.try_release("v2", spec).await.unwrap();
    site.repository.start(&v2, 1).await;
    site.repository.start(&v2, 1).await;
    let log = std::fs::read_to_string(site.repository.beside("live/log")).unwrap();
    assert_eq!(log, "v2 v2 v2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_link_led_to_before_comes_back() {
    let site = Site::new();
    let v2 = site.release("v2").await;
    site.repository.start(&v2, 1).await;
    site.repository.stop(&v2).await;
    assert!(std::fs::symlink_metadata(site.link()).is_err(), "there was none");
    let older = site.repository.beside("live/by-hand");
    std::fs::create_dir(&older).unwrap();
    std::fs::write(older.join("app.txt"), "by hand").unwrap();
    std::os::unix::fs::symlink("by-hand", site.link()).unwrap();
    assert!(site.repository.obstacles(&v2).await.is_empty());
    site.repository.start(&v2, 2).await;
    assert_eq!(site.app(), "v2");
    site.repository.stop(&v2).await;
    assert_eq!(site.app(), "by hand");
    assert_eq!(site.repository.observe(&v2).await.running, Running::No);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_releases_took_turns_in_is_left_for_a_link_and_gone_back_from() {
    let site = Site::new();
    let (v1, v2) = (site.repository.release("v1").await, site.release("v2").await);
    site.repository.start(&v1, 1).await;
    // By today's file they stand behind a link; the older release knows nothing of that.
    let target = site.repository.target_with_today(site.spec());
    let seen = target.observe(&unit(Slot::A), Some(&v1)).await.unwrap();
    assert_eq!((seen.running, seen.release.as_ref()), (Running::Yes, Some(&v1.id)));
    site.repository.start_by(&target, &v2, 2, false).await.unwrap();
    assert_eq!(site.app(), "v2");
    site.repository.start_by(&target, &v1, 3, true).await.unwrap();
    assert_eq!(site.app(), "v1");
    let seen = target.observe(&unit(Slot::A), Some(&v1)).await.unwrap();
    assert_eq!((seen.deployment, seen.release.as_ref()), (Some(3), Some(&v1.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_the_link_can_be_adopted() {
    let site = Site::new();
    let made = site.repository.beside("live/made");
    std::fs::create_dir(site.repository.beside("live")).unwrap();
    let shown = made.display().to_string();
    site.repository.git(&["worktree", "add", "--quiet", "--detach", &shown, "v2"]);
    std::os::unix::fs::symlink("made", site.link()).unwrap();
    let asked = release("adopt", TargetSpec::Git(site.spec()));
    let seen = site.repository.observe(&asked).await;
    assert_eq!(seen.version.unwrap().as_str(), "v2");
    let mut service = asked.content.services[&web()].clone();
    let (target, of) = (site.repository.target(), PartsOf::Running);
    let parts = target.parts(&unit(Slot::A), &mut service, &version("v2"), of).await.unwrap();
    let commit = site.repository.git(&["rev-parse", "v2"]);
    assert_eq!(parts.unwrap()[0].digest, format!("git:{commit}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn worktrees_of_a_repository_without_a_tree_and_with_submodules() {
    let site = Site::new();
    let other = Repository::new();
    let url = format!("file://{}", other.tree().display());
    site.repository.git(&["submodule", "--quiet", "add", &url, "lib"]);
    site.repository.commit("with a library");
    site.repository.git(&["tag", "with-lib"]);
    let (tree, bare) = (site.repository.tree(), site.repository.beside("bare.git"));
    let (from, to) = (tree.display().to_string(), bare.display().to_string());
    run_git(&tree, &["clone", "--quiet", "--bare", &from, &to]);
    let protocols = vec!["file".to_owned()];
    let repository = "bare.git".to_owned();
    let spec = GitSpec { repository, submodules: true, protocols, ..site.spec() };
    let (v2, lib) = (
        site.repository.try_release("v2", spec.clone()).await.unwrap(),
        site.repository.try_release("with-lib", spec).await.unwrap(),
    );
    assert_eq!(site.repository.observe(&v2).await.running, Running::No);
    site.repository.start(&lib, 1).await;
    assert_eq!(std::fs::read_to_string(site.link().join("lib/app.txt")).unwrap(), "v1");
    site.repository.start(&v2, 2).await;
    site.repository.start_with(&lib, 3, true).await.unwrap();
    assert_eq!(std::fs::read_to_string(site.link().join("lib/app.txt")).unwrap(), "v1");
    assert_eq!(site.restorable(&lib).await.status, Severity::Pass);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_of_another_environment_is_refused() {
    let site = Site::new();
    let v2 = site.release("v2").await;
    site.repository.start(&v2, 1).await;
    let mut other = unit(Slot::A);
    other.key.environment = EnvironmentName::new("staging").unwrap();
    let found = site.repository.target().obstacles(&other, &v2).await.unwrap();
    assert!(found[0].contains("of shop/production"), "{found:?}");
    let action = TargetAction::Start {
        unit: other,
        release: v2,
        deployment: 1,
        restore: false,
        revert: None,
        batch: None,
    };
    let error = site.repository.target().apply(&action, &step_cx("start")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_was_cut_short_is_no_release_and_is_made_again_or_back() {
    let site = Site::new();
    let v1 = site.release("v1").await;
    site.repository.start(&v1, 1).await;
    let line = "echo x >> ../../../runs; test -e ../../../go || sleep 600";
    let post_checkout = ["sh", "-c", line].map(str::to_owned).to_vec();
    let spec = GitSpec { post_checkout, ..site.spec() };
    let v2 = site.repository.try_release("v2", spec).await.unwrap();
    let began = async {
        while !site.repository.beside("live/runs").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = site.repository.start_with(&v2, 2, false) => panic!("{ended:?}"),
        () = began => (),
    }
    assert_eq!(site.app(), "v2");
    let seen = site.repository.observe(&v2).await;
    assert_ne!(seen.release.as_ref(), Some(&v2.id), "its command has not run to its end");
    assert_ne!(seen.version, Some(version("v2")));
    assert_eq!(site.restorable(&v1).await.status, Severity::Pass, "it is no way back's fault");
    site.repository.start_with(&v1, 3, true).await.unwrap();
    assert_eq!(site.app(), "v1");
    std::fs::write(site.repository.beside("live/go"), "").unwrap();
    site.repository.start(&v2, 4).await;
    assert_eq!(site.repository.observe(&v2).await.release.as_ref(), Some(&v2.id));
}
