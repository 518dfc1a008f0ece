//! A working tree of git on another host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_adapters::artifact::GitArtifacts;
use backout_adapters::git::Git;
use backout_adapters::host::{Hosts, SshHost};
use backout_adapters::target::{GitTarget, GitTargetOptions};
use backout_core::ids::{Slot, Unit};
use backout_core::model::{GitMove, GitSpec, Release, TargetSpec};
use backout_core::ports::{
    ArtifactStore, ErrorClass, GuardState, Host, Observed, PartsOf, Receipt, Revert, Running,
    StepCx, Target, TargetAction,
};
use backout_testkit::fixtures::{key, ledger, release, release_of, step_cx, version, web};
use backout_testkit::sshd::SshServers;
use backout_testkit::target_suite::{TargetBench, check_target};

use super::world::{World, options, remote_unit};
use crate::git::world::run_git;

struct Trees {
    world: World,
    protocols: Vec<String>,
}

impl Trees {
    /// As the one of tests here: `app.txt` holds the version; tags `v1` to `v3`; `main` at `v1`.
    fn new() -> Self {
        Self::on(World::new())
    }

    fn on(world: World) -> Self {
        let this = Self { world, protocols: vec!["https".to_owned()] };
        std::fs::create_dir(this.tree()).unwrap();
        this.git(&["init", "--quiet", "--initial-branch=main"]);
        for label in ["v1", "v2", "v3"] {
            this.world.write("tree/app.txt", label);
            this.git(&["add", "--all"]);
            this.git(&["commit", "--quiet", "--message", label]);
            this.git(&["tag", label]);
        }
        this.git(&["reset", "--quiet", "--hard", "v1"]);
        this
    }

    fn tree(&self) -> PathBuf {
        self.world.folder().join("tree")
    }

    fn git(&self, args: &[&str]) -> String {
        run_git(&self.tree(), args)
    }

    fn app(&self) -> String {
        self.world.read("tree/app.txt")
    }

    fn git_target(&self) -> GitTarget {
        GitTarget::new(GitTargetOptions {
            folder: PathBuf::from("/no/such/folder"),
            env: Vec::new(),
            key: key(),
            ledger: ledger("tests"),
            services: BTreeMap::new(),
        })
        .with_hosts(Hosts::new([self.world.host.clone() as Arc<dyn Host>]))
    }

    fn artifacts(&self) -> GitArtifacts {
        let tree = PathBuf::from("tree");
        let git = Git::on(self.world.host.clone(), tree.clone(), &self.protocols, None);
        GitArtifacts::new(&key(), vec![(tree, git)])
    }

    fn spec(&self) -> GitSpec {
        GitSpec {
            repository: "tree".to_owned(),
            link: None,
            revision: "{version}".to_owned(),
            by: GitMove::Checkout,
            submodules: false,
            remote: None,
            protocols: self.protocols.clone(),
            push: None,
            last_stable: "last-stable".to_owned(),
            post_checkout: [
                "sh",
                "-c",
                "echo \"$BACKOUT_VERSION $COMMIT_SHA\" >> ../runs; exec cat ../code",
            ]
            .map(str::to_owned)
            .to_vec(),
            timeout_ms: 60_000,
            commit: String::new(),
        }
    }

    async fn release_of(&self, label: &str) -> Arc<Release> {
        let draft = release(label, TargetSpec::Git(self.spec()));
        let mut content = draft.content.clone();
        let service = content.services.get_mut(&web()).unwrap();
        let (unit, label) = (remote_unit(0), version(label));
        let parts = self.git_target().parts(&unit, service, &label, PartsOf::Disk).await.unwrap();
        content.artifacts = parts.unwrap();
        release_of(content)
    }

    async fn start(&self, release: &Arc<Release>, number: u64, revert: Option<Revert>) -> Receipt {
        let action = TargetAction::Start {
            unit: remote_unit(0),
            release: release.clone(),
            deployment: number,
            restore: false,
            revert,
            batch: None,
        };
        let cx = step_cx(&format!("start-{number}"));
        self.git_target().apply(&action, &cx).await.unwrap_or_else(|e| panic!("{e}"))
    }

    async fn observe(&self, release: &Release) -> Observed {
        self.git_target().observe(&remote_unit(0), Some(release)).await.unwrap()
    }

    async fn until_reverted(&self, release: &Release) -> Observed {
        let wait = async {
            loop {
                let seen = self.observe(release).await;
                match seen.guard.as_ref().map(|guard| &guard.state) {
                    Some(GuardState::Reverted(_)) => return seen,
                    Some(GuardState::Failed(_, why)) => panic!("{why}"),
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(90), wait).await.unwrap()
    }
}

#[async_trait]
impl TargetBench for Trees {
    fn target(&self) -> Arc<dyn Target> {
        Arc::new(self.git_target())
    }
    fn unit(&self, slot: Slot) -> Unit {
        Unit { slot, ..remote_unit(0) }
    }
    async fn release(&self, version: &str) -> Arc<Release> {
        self.world.write("code", "");
        self.release_of(version).await
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
async fn a_tree_on_another_host_obeys_the_suite() {
    check_target(&Trees::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_there_is_moved_set_aside_and_pinned_as_one_here() {
    let trees = Trees::new();
    trees.world.write("code", "");
    let (v1, v2) = (trees.release_of("v1").await, trees.release_of("v2").await);
    let digest = &v2.content.artifacts[0].digest;
    assert!(trees.artifacts().verify(digest).await.unwrap_err().message.contains("is not kept"));
    trees.artifacts().pin("tree", digest).await.unwrap();
    trees.artifacts().verify(digest).await.unwrap();
    trees.start(&v1, 1, None).await;
    trees.world.write("tree/app.txt", "changed by hand");
    let found = trees.git_target().obstacles(&remote_unit(0), &v2).await.unwrap();
    assert!(found[0].contains("app.txt"), "{found:?}");
    let receipt = trees.start(&v2, 2, None).await;
    assert!(receipt.warnings[0].contains("app.txt"), "{receipt:?}");
    assert_eq!(trees.app(), "v2");
    let commit = trees.git(&["rev-parse", "v2"]);
    assert!(trees.world.read("runs").ends_with(&format!("v2 {commit}\n")));
    let seen = trees.observe(&v2).await;
    assert_eq!((seen.running, seen.release.as_ref()), (Running::Yes, Some(&v2.id)));
    assert_eq!((seen.deployment, seen.guard), (Some(2), None));
    assert!(trees.git(&["for-each-ref"]).contains("set-aside"));
}

/// Somebody who was stopped for long goes on while another one has the lease.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_lease_changes_nothing_in_a_tree_there() {
    let trees = Trees::new();
    trees.world.write("code", "");
    let (v1, v2) = (trees.release_of("v1").await, trees.release_of("v2").await);
    let digest = &v2.content.artifacts[0].digest;
    trees.artifacts().pin("tree", digest).await.unwrap();
    let newer = StepCx { epoch: 7, ..step_cx("newer") };
    let start = |release: &Arc<Release>, number: u64| TargetAction::Start {
        unit: remote_unit(0),
        release: release.clone(),
        deployment: number,
        restore: false,
        revert: None,
        batch: None,
    };
    trees.git_target().apply(&start(&v1, 1), &newer).await.unwrap();
    let note = || trees.git(&["rev-parse", "--absolute-git-dir"]);
    let note = std::path::Path::new(&note()).join("backout/web.json");
    let before = std::fs::read_to_string(&note).unwrap();
    let older = StepCx { epoch: 6, ..step_cx("older") };
    let error = trees.git_target().apply(&start(&v2, 2), &older).await.unwrap_err();
    assert!(error.message.contains("newer lease"), "{error}");
    assert_eq!(std::fs::read_to_string(&note).unwrap(), before);
    let error = trees.artifacts().prune(&[], &older).await.unwrap_err();
    assert!(error.message.contains("newer lease"), "{error}");
    trees.artifacts().verify(digest).await.unwrap();
    assert_eq!(trees.app(), "v1");
}

/// Of several hosts one is always down: the others can be brought back all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_away_says_nothing_against_the_commits_of_the_others() {
    let mut trees = Trees::on(World::on(SshServers::start(2)));
    let v2 = trees.release_of("v2").await;
    let digest = &v2.content.artifacts[0].digest;
    trees.artifacts().pin("tree", digest).await.unwrap();
    let gone = Arc::new(SshHost::new(options(&trees.world.servers, 1)));
    trees.world.servers.stop(1);
    let on = |hosts: &[Arc<SshHost>]| {
        let tree = PathBuf::from("tree");
        let git = |host: &Arc<SshHost>| Git::on(host.clone(), tree.clone(), &trees.protocols, None);
        GitArtifacts::new(&key(), hosts.iter().map(|host| (tree.clone(), git(host))).collect())
    };
    let both = on(&[trees.world.host.clone(), gone.clone()]);
    both.verify(digest).await.unwrap();
    let nobody = on(std::slice::from_ref(&gone)).verify(digest).await.unwrap_err();
    assert!(nobody.message.contains("failed to reach host1"), "{nobody}");
    assert_eq!(both.prune(&[], &step_cx("prune")).await.unwrap(), std::slice::from_ref(digest));
    assert!(both.verify(digest).await.unwrap_err().message.contains("is not kept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_nobody_confirms_is_made_back_with_what_runs_after_it() {
    let trees = Trees::new();
    trees.world.write("code", "");
    let (v1, v2) = (trees.release_of("v1").await, trees.release_of("v2").await);
    trees.start(&v1, 1, None).await;
    let revert = Revert { back_to: Some(v1.clone()), within_ms: 800 };
    trees.start(&v2, 2, Some(revert)).await;
    let seen = trees.until_reverted(&v2).await;
    assert_eq!(trees.app(), "v1");
    assert_eq!((seen.release.as_ref(), seen.deployment), (Some(&v1.id), Some(1)));
    let runs = trees.world.read("runs");
    let versions: Vec<&str> = runs.lines().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(versions, ["v1", "v2", "v1"]);
    // Then as ever.
    trees.start(&v2, 3, None).await;
    let seen = trees.observe(&v2).await;
    assert_eq!((seen.deployment, seen.guard), (Some(3), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_move_whose_link_breaks_goes_back_to_the_branch_that_was_there() {
    let trees = Trees::new();
    // The command after the move waits for somebody to write into this.
    let made = std::process::Command::new("mkfifo").arg(trees.world.folder().join("code")).status();
    assert!(made.unwrap().success());
    let v2 = trees.release_of("v2").await;
    let (target, release) = (trees.git_target(), v2.clone());
    let call = tokio::spawn(async move {
        let action = TargetAction::Start {
            unit: remote_unit(0),
            release,
            deployment: 1,
            restore: false,
            revert: Some(Revert { back_to: None, within_ms: 800 }),
            batch: None,
        };
        target.apply(&action, &step_cx("start-1")).await
    });
    trees.world.until("it is moved", |world| !world.read("runs").is_empty()).await;
    trees.world.servers.kill_sessions(0);
    assert_eq!(call.await.unwrap().unwrap_err().class, ErrorClass::Unknown);
    assert_eq!(trees.app(), "v2");
    let seen = trees.observe(&v2).await;
    assert_eq!(seen.running, Running::Unknown, "half of a move: {seen:?}");
    std::fs::write(trees.world.folder().join("code"), "").unwrap();
    trees.until_reverted(&v2).await;
    assert_eq!(
        (trees.app().as_str(), trees.git(&["branch", "--show-current"]).as_str()),
        ("v1", "main")
    );
    assert_eq!(trees.observe(&v2).await.running, Running::No);
}
