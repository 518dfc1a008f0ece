//! A folder with a `backout.yaml`'s files, a state folder, and what runs there. All of it goes when it is dropped.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_adapters::artifact::FileArtifacts;
use backout_adapters::host::procfs::{self, ProcessId};
use backout_adapters::target::process::inherited_environment;
use backout_adapters::target::{
    ConfigBlobs, ProcessTarget, ProcessTargetOptions, ScriptHistory, ScriptTarget,
    ScriptTargetOptions,
};
use backout_core::ids::{Slot, Unit};
use backout_core::model::{
    Artifact, ConfigFile, FileKind, ProcessSpec, Release, RestartPolicy, ScriptSpec, TargetSpec,
};
use backout_core::ports::{
    AdapterError, ArtifactStore, Observed, Receipt, Running, Secrets, StepCx, Target, TargetAction,
};
use backout_testkit::fixtures::{ledger, process, release, release_of, step_cx, unit, web};
use rustix::process::Signal;

/// Patience with things that must come, on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    temp: tempfile::TempDir,
    pub blobs: Arc<Blobs>,
}

/// Blobs by digest, and today's value of every secret.
#[derive(Default)]
pub struct Blobs(pub std::sync::Mutex<BTreeMap<String, Vec<u8>>>);

#[async_trait]
impl ConfigBlobs for Blobs {
    async fn unmasked(
        &self,
        file: &ConfigFile,
        secrets: &Secrets,
    ) -> Result<Vec<u8>, AdapterError> {
        let FileKind::File { blob, .. } = &file.kind else { return Ok(Vec::new()) };
        let blobs = self.0.lock().unwrap();
        let bytes =
            blobs.get(blob).ok_or_else(|| AdapterError::permanent(format!("no blob {blob}")))?;
        let today = secrets.iter().map(|(k, v)| (k.clone(), v.expose().to_owned())).collect();
        backout_core::model::unmask_secrets(bytes, &today).map_err(AdapterError::permanent)
    }
}

impl World {
    pub fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        for folder in ["folder", "state"] {
            std::fs::create_dir(temp.path().join(folder)).unwrap();
        }
        Self { temp, blobs: Arc::default() }
    }

    pub fn folder(&self) -> PathBuf {
        self.temp.path().join("folder")
    }

    pub fn state(&self) -> PathBuf {
        self.temp.path().join("state")
    }

    /// The folder of a slot of `web`.
    pub fn slot(&self, slot: Slot) -> PathBuf {
        self.state().join("slots/shop/production/web").join(slot.as_str())
    }

    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.folder().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// An executable `sh` script.
    pub fn script(&self, path: &str, body: &str) -> PathBuf {
        let path = self.write(path, &format!("#!/bin/sh\n{body}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder().join(path)).unwrap_or_default()
    }

    pub fn artifacts(&self) -> FileArtifacts {
        FileArtifacts::new(self.folder(), &self.state())
    }

    pub fn options(&self) -> ProcessTargetOptions {
        ProcessTargetOptions {
            state_dir: self.state(),
            folder: self.folder(),
            supervise_exe: supervisor(),
            supervise_args: Vec::new(),
            ledger: ledger("here"),
            artifacts: Arc::new(self.artifacts()),
            blobs: Arc::clone(&self.blobs) as Arc<dyn ConfigBlobs>,
            inherited: inherited_environment()
                .into_iter()
                .chain([("CALLERS_OWN".to_owned(), "1".to_owned())])
                .collect(),
            log_cap_bytes: 1 << 20,
        }
    }

    pub fn target(&self) -> ProcessTarget {
        ProcessTarget::new(self.options())
    }

    pub fn script_target(&self, side_by_side: bool) -> ScriptTarget {
        ScriptTarget::new(self.script_options(side_by_side, None))
    }

    pub fn script_options(
        &self,
        side_by_side: bool,
        history: Option<Arc<dyn ScriptHistory>>,
    ) -> ScriptTargetOptions {
        ScriptTargetOptions {
            state_dir: self.state(),
            folder: self.folder(),
            env: std::env::vars_os().chain([("CALLERS_OWN".into(), "1".into())]).collect(),
            default: None,
            side_by_side,
            history,
        }
    }

    /// A release with its artifacts pinned.
    pub async fn pinned(&self, label: &str, spec: ProcessSpec) -> Arc<Release> {
        let store = self.artifacts();
        let mut artifacts = Vec::new();
        for path in &spec.artifact {
            let digest = store.digest(path).await.unwrap();
            store.pin(path, &digest).await.unwrap();
            artifacts.push(Artifact { service: web(), path: path.clone(), digest, kept: true });
        }
        let mut content = release(label, TargetSpec::Process(spec)).content.clone();
        content.artifacts = artifacts;
        release_of(content)
    }

    /// Waits until the files of the folder say what they should.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        until(what, || holds(self)).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for slot in Slot::BOTH {
            let read = |name: &str| {
                let text = std::fs::read(self.slot(slot).join(name)).ok()?;
                serde_json::from_slice::<serde_json::Value>(&text).ok()
            };
            if let Some(status) = read("status.json") {
                if let Ok(supervisor) =
                    serde_json::from_value::<ProcessId>(status["supervisor"].clone())
                {
                    let _ = supervisor.signal(Signal::KILL);
                }
                for process in procfs::with_variable(
                    "BACKOUT_INSTANCE",
                    status["instance"].as_str().unwrap_or("-"),
                ) {
                    let _ = process.id().signal(Signal::KILL);
                }
            }
        }
    }
}

/// The supervisor that cargo builds with the tests.
pub fn supervisor() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples/supervise");
    assert!(
        path.exists(),
        "{} is missing: run the tests of the whole package, so that its examples are built",
        path.display()
    );
    path
}

/// `sh -c` of a text.
pub fn sh(text: &str) -> ProcessSpec {
    process(["/bin/sh", "-c", text])
}

/// A program that runs until it is told to end.
pub fn sleeper() -> ProcessSpec {
    sh("exec sleep 600")
}

pub fn no_restarts(spec: ProcessSpec) -> ProcessSpec {
    ProcessSpec { restart: RestartPolicy { max: 0, within_ms: 60_000 }, ..spec }
}

pub fn process_release(label: &str, spec: ProcessSpec) -> Arc<Release> {
    release(label, TargetSpec::Process(spec))
}

pub fn script_spec() -> ScriptSpec {
    ScriptSpec { program: "deploy.sh".to_owned(), args: Vec::new(), timeout_ms: 30_000 }
}

pub fn script_release(label: &str, spec: ScriptSpec) -> Arc<Release> {
    release(label, TargetSpec::Script(spec))
}

pub async fn start(
    target: &dyn Target,
    slot: Slot,
    release: &Arc<Release>,
    deployment: u64,
) -> Result<Receipt, AdapterError> {
    start_with(target, slot, release, deployment, &step_cx("start")).await
}

pub async fn start_with(
    target: &dyn Target,
    slot: Slot,
    release: &Arc<Release>,
    deployment: u64,
    cx: &StepCx,
) -> Result<Receipt, AdapterError> {
    let action = TargetAction::Start {
        unit: unit(slot),
        release: Arc::clone(release),
        deployment,
        restore: false,
        revert: None,
        batch: None,
    };
    target.apply(&action, cx).await
}

pub async fn stop(
    target: &dyn Target,
    slot: Slot,
    release: &Arc<Release>,
    grace_ms: u64,
) -> Result<Receipt, AdapterError> {
    let action = TargetAction::Stop { unit: unit(slot), release: Arc::clone(release), grace_ms };
    target.apply(&action, &step_cx("stop")).await
}

pub async fn observe(target: &dyn Target, slot: Slot) -> Observed {
    target.observe(&unit(slot), None).await.unwrap()
}

/// Waits until a unit is observed as it should be.
pub async fn observed(
    target: &dyn Target,
    unit: &Unit,
    what: &str,
    holds: impl Fn(&Observed) -> bool,
) -> Observed {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let observed = target.observe(unit, None).await.unwrap();
        if holds(&observed) {
            return observed;
        }
        assert!(std::time::Instant::now() < end, "never {what}: {observed:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < end, "never {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The process that a program has written down in a file, once it has.
pub async fn pid_in(path: &Path) -> ProcessId {
    until(&format!("a process id in {}", path.display()), || {
        std::fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    let pid = std::fs::read_to_string(path).unwrap().trim().parse().unwrap();
    ProcessId::of(pid).unwrap_or_else(|| panic!("process {pid} has ended"))
}

pub fn is_running(observed: &Observed) -> bool {
    observed.running == Running::Yes
}
