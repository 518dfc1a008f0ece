//! A repository with three versions, and a target on it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use backout_adapters::artifact::{FileArtifacts, GitArtifacts};
use backout_adapters::git::Git;
use backout_adapters::target::{GitTarget, GitTargetOptions};
use backout_core::ids::{Slot, Unit};
use backout_core::model::{GitMove, GitSpec, Release, ReleaseContent, TargetSpec};
use backout_core::ports::{AdapterError, Observed, PartsOf, Receipt, StepCx, Target, TargetAction};
use backout_testkit::fixtures::{key, ledger, release, release_of, step_cx, unit, version, web};
use backout_testkit::target_suite::TargetBench;

pub struct Repository {
    temp: tempfile::TempDir,
}

/// The variables that git needs, and none that lead it elsewhere.
pub fn env() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

impl Repository {
    /// `app.txt` holds the version; tags `v1`, `v2` and `v3`; `main` at `v1`.
    pub fn new() -> Self {
        let this = Self { temp: tempfile::tempdir().unwrap() };
        std::fs::create_dir(this.tree()).unwrap();
        this.git(&["init", "--quiet", "--initial-branch=main"]);
        for label in ["v1", "v2", "v3"] {
            this.write("app.txt", label);
            this.write(&format!("only-{label}.txt"), label);
            this.commit(label);
            this.git(&["tag", label]);
            this.git(&["rm", "--quiet", &format!("only-{label}.txt")]);
        }
        this.git(&["reset", "--quiet", "--hard", "v1"]);
        this
    }

    pub fn tree(&self) -> PathBuf {
        self.temp.path().join("tree")
    }

    pub fn beside(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    pub fn git(&self, args: &[&str]) -> String {
        run_git(&self.tree(), args)
    }

    pub fn write(&self, path: &str, text: &str) {
        std::fs::write(self.tree().join(path), text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.tree().join(path)).unwrap()
    }

    pub fn has(&self, path: &str) -> bool {
        self.tree().join(path).exists()
    }

    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub fn spec(&self) -> GitSpec {
        GitSpec {
            repository: "tree".to_owned(),
            link: None,
            revision: "{version}".to_owned(),
            by: GitMove::Checkout,
            submodules: false,
            remote: None,
            protocols: vec!["https".to_owned(), "ssh".to_owned()],
            push: None,
            last_stable: "last-stable".to_owned(),
            post_checkout: Vec::new(),
            timeout_ms: 60_000,
            commit: String::new(),
        }
    }

    pub fn target(&self) -> GitTarget {
        self.target_of(self.temp.path(), env())
    }

    /// One that runs this in the place of git; `$GIT` is the real one.
    pub fn target_with_git(&self, script: &str) -> GitTarget {
        let folder = self.beside("bin");
        std::fs::create_dir_all(&folder).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let real = std::env::split_paths(&path).map(|at| at.join("git")).find(|at| at.is_file());
        let text = format!("#!/bin/sh\nGIT={}\n{script}\n", real.unwrap().display());
        std::fs::write(folder.join("git"), text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.join("git"), mode).unwrap();
        let first = std::iter::once(folder).chain(std::env::split_paths(&path));
        let mut env = env();
        env.retain(|(name, _)| name != "PATH");
        env.push(("PATH".into(), std::env::join_paths(first).unwrap()));
        self.target_of(self.temp.path(), env)
    }

    /// One whose file says this of the service by now.
    pub fn target_with_today(&self, spec: GitSpec) -> GitTarget {
        let today = release("today", TargetSpec::Git(spec)).content.services.clone();
        GitTarget::new(GitTargetOptions {
            folder: self.temp.path().to_owned(),
            env: env(),
            key: key(),
            ledger: ledger("tests"),
            services: today,
        })
    }

    fn target_of(&self, folder: &Path, env: Vec<(OsString, OsString)>) -> GitTarget {
        GitTarget::new(GitTargetOptions {
            folder: folder.to_owned(),
            env,
            key: key(),
            ledger: ledger("tests"),
            services: BTreeMap::new(),
        })
    }

    pub fn artifacts(&self) -> GitArtifacts {
        let git = Git::new(self.tree(), &env(), &[]);
        GitArtifacts::new(&key(), vec![(PathBuf::from("tree"), git)])
    }

    /// A release as the engine makes it.
    pub async fn try_release(
        &self,
        label: &str,
        spec: GitSpec,
    ) -> Result<Arc<Release>, AdapterError> {
        let draft = release(label, TargetSpec::Git(spec));
        let mut content: ReleaseContent = draft.content.clone();
        let service = content.services.get_mut(&web()).unwrap();
        let parts =
            self.target().parts(&unit(Slot::A), service, &version(label), PartsOf::Disk).await?;
        content.artifacts = parts.unwrap();
        Ok(release_of(content))
    }

    pub async fn release(&self, label: &str) -> Arc<Release> {
        self.try_release(label, self.spec()).await.unwrap()
    }

    pub async fn start_with(
        &self,
        release: &Arc<Release>,
        deployment: u64,
        restore: bool,
    ) -> Result<Receipt, AdapterError> {
        self.start_by(&self.target(), release, deployment, restore).await
    }

    pub async fn start_by(
        &self,
        target: &GitTarget,
        release: &Arc<Release>,
        deployment: u64,
        restore: bool,
    ) -> Result<Receipt, AdapterError> {
        let action = TargetAction::Start {
            unit: unit(Slot::A),
            release: Arc::clone(release),
            deployment,
            restore,
            revert: None,
            batch: None,
        };
        target.apply(&action, &step_cx(&format!("start-{deployment}"))).await
    }

    pub async fn start(&self, release: &Arc<Release>, deployment: u64) -> Receipt {
        self.start_with(release, deployment, false).await.unwrap()
    }

    pub async fn stop(&self, release: &Arc<Release>) -> Receipt {
        let action =
            TargetAction::Stop { unit: unit(Slot::A), release: Arc::clone(release), grace_ms: 100 };
        self.target().apply(&action, &step_cx("stop")).await.unwrap()
    }

    pub async fn observe(&self, release: &Release) -> Observed {
        self.target().observe(&unit(Slot::A), Some(release)).await.unwrap()
    }

    pub async fn obstacles(&self, release: &Release) -> Vec<String> {
        self.target().obstacles(&unit(Slot::A), release).await.unwrap()
    }
}

pub fn run_git(folder: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"];
    let output = Command::new("git")
        .args(identity)
        .args(["-c", "protocol.file.allow=always"])
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[async_trait]
impl TargetBench for Repository {
    fn target(&self) -> Arc<dyn Target> {
        Arc::new(Repository::target(self))
    }
    fn unit(&self, slot: Slot) -> Unit {
        unit(slot)
    }
    async fn release(&self, version: &str) -> Arc<Release> {
        Repository::release(self, version).await
    }
    async fn impossible(&self) -> Option<Arc<Release>> {
        let spec = GitSpec { commit: "0".repeat(40), ..self.spec() };
        Some(release("v9", TargetSpec::Git(spec)))
    }
    fn cx(&self, step: &str) -> StepCx {
        step_cx(step)
    }
}

/// Files beside commits, as the binary puts them together.
pub fn with_files(repository: &Repository) -> backout_adapters::artifact::AllArtifacts {
    let files = FileArtifacts::new(repository.tree(), &repository.beside("state"));
    let others: Vec<(&'static str, Arc<dyn backout_core::ports::ArtifactStore>)> =
        vec![(backout_adapters::artifact::GIT_SCHEME, Arc::new(repository.artifacts()))];
    backout_adapters::artifact::AllArtifacts::new(Arc::new(files), others)
}
