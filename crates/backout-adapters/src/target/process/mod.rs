//! Programs that Backout supervises itself.
//!
//! Each slot of a service has a folder in the state folder and at most one live supervisor: a detached
//! process that holds `supervisor.lock` for life, starts the program, restarts it within its limits and
//! writes `status.json` on each change. What this module knows of a slot it reads from these files and
//! from `/proc`; it needs no connection to the supervisor.
//!
//! A supervisor that has given up ends, and its last status stays: nothing is left running for a release
//! that can't run. A supervisor that was killed leaves the program running without restarts; that is seen
//! by comparing lock, status and `/proc`, and the next start or stop ends such an orphan first.

mod artifacts;
mod config_copies;
mod drill;
mod environment;
mod evidence;
mod farewell;
mod fill;
mod launch;
mod observe;
mod obstacles;
mod orphans;
mod port;
mod prepare;
mod slot;
mod spec;
mod start;
mod stop;
pub mod supervise;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ids::{LedgerId, Unit};
use backout_core::model::{ConfigFile, ProcessSpec, Release, TargetSpec};
use backout_core::ports::{
    AdapterError, Capabilities, Farewell, NamedText, Observed, Receipt, Secrets, StepCx, Target,
    TargetAction,
};

pub use environment::inherited_environment;
pub(crate) use fill::{Values, fill};

use crate::artifact::FileArtifacts;

/// Config files of a release as they shall lie on disk today.
#[async_trait]
pub trait ConfigBlobs: Send + Sync {
    /// The bytes of one recorded file, its secret markers filled with today's values.
    ///
    /// # Errors
    /// Permanent if the blob is missing, or a secret has no value today.
    async fn unmasked(&self, file: &ConfigFile, secrets: &Secrets)
    -> Result<Vec<u8>, AdapterError>;
}

/// What a [`ProcessTarget`] needs to know.
#[derive(Clone)]
pub struct ProcessTargetOptions {
    /// The state folder.
    pub state_dir: PathBuf,
    /// The folder of `backout.yaml`.
    pub folder: PathBuf,
    /// What is started as supervisor, normally this very program.
    pub supervise_exe: PathBuf,
    /// Arguments before the path of the specification, normally `supervise`.
    pub supervise_args: Vec<String>,
    /// The ledger that manages what is started here.
    pub ledger: LedgerId,
    /// Copies of artifacts.
    pub artifacts: Arc<FileArtifacts>,
    /// Config files of releases.
    pub blobs: Arc<dyn ConfigBlobs>,
    /// `PATH HOME USER LANG TZ` as programs get them: see [`inherited_environment`].
    pub inherited: BTreeMap<String, String>,
    /// Size at which a log is rotated; one older file is kept.
    pub log_cap_bytes: u64,
}

/// Log size at which the supervisor rotates, unless told otherwise.
pub const DEFAULT_LOG_CAP_BYTES: u64 = 5 << 20;

/// Runs programs under detached supervisors on this machine.
#[derive(Clone)]
pub struct ProcessTarget {
    options: Arc<ProcessTargetOptions>,
}

impl ProcessTarget {
    /// A target for one app folder and one ledger.
    #[must_use]
    pub fn new(mut options: ProcessTargetOptions) -> Self {
        environment::keep_inherited(&mut options.inherited);
        Self { options: Arc::new(options) }
    }

    /// The last `max_bytes` of what a deployment's program has written.
    #[must_use]
    pub fn log(&self, unit: &Unit, deployment: u64, max_bytes: usize) -> Option<String> {
        slot::SlotFolder::of(&self.options.state_dir, unit).tail(deployment, max_bytes)
    }
}

/// The process definition of a unit's service in a release.
fn process_spec<'a>(unit: &Unit, release: &'a Release) -> Result<&'a ProcessSpec, AdapterError> {
    match release.content.services.get(&unit.service).map(|service| &service.target) {
        Some(TargetSpec::Process(spec)) => Ok(spec),
        Some(_) => Err(AdapterError::permanent(format!(
            "failed to use {unit}: its service is not of target `process`"
        ))),
        None => Err(AdapterError::permanent(format!(
            "failed to use {unit}: release {} has no service `{}`",
            release.id, unit.service
        ))),
    }
}

fn refuse_other_host(unit: &Unit) -> Result<(), AdapterError> {
    if unit.host.as_str() == "local" {
        return Ok(());
    }
    Err(AdapterError::permanent(format!(
        "failed to use {unit}: target `process` runs programs on this machine only"
    ))
    .with_hint("take hosts: out of backout.yaml"))
}

#[async_trait]
impl Target for ProcessTarget {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            side_by_side: true,
            replaces_in_place: false,
            addressable: true,
            sees_foreign: false,
        }
    }

    async fn observe(
        &self,
        unit: &Unit,
        _release: Option<&Release>,
    ) -> Result<Observed, AdapterError> {
        refuse_other_host(unit)?;
        let folder = slot::SlotFolder::of(&self.options.state_dir, unit);
        blocking(move || observe::observe(&folder)).await
    }

    async fn not_beside(
        &self,
        unit: &Unit,
        release: &Release,
    ) -> Result<Option<String>, AdapterError> {
        Ok(drill::not_beside(unit, process_spec(unit, release)?))
    }

    async fn farewell(
        &self,
        unit: &Unit,
        _release: &Release,
        _act: Option<&StepCx>,
    ) -> Result<Farewell, AdapterError> {
        refuse_other_host(unit)?;
        let (folder, unit) = (slot::SlotFolder::of(&self.options.state_dir, unit), unit.clone());
        blocking(move || farewell::farewell(&folder, &unit)).await
    }

    async fn evidence(
        &self,
        unit: &Unit,
        release: &Release,
        limit_bytes: usize,
    ) -> Result<Vec<NamedText>, AdapterError> {
        refuse_other_host(unit)?;
        let folder = slot::SlotFolder::of(&self.options.state_dir, unit);
        let release = release.id.clone();
        blocking(move || evidence::evidence(&folder, &release, limit_bytes)).await
    }

    async fn apply(&self, action: &TargetAction, cx: &StepCx) -> Result<Receipt, AdapterError> {
        match action {
            TargetAction::Start { unit, release, deployment, .. } => {
                refuse_other_host(unit)?;
                start::start(&self.options, unit, release, *deployment, cx).await
            }
            TargetAction::Confirm { unit, .. } => Err(crate::target::not_guarded(unit)),
            TargetAction::Stop { unit, grace_ms, .. } => {
                refuse_other_host(unit)?;
                stop::stop(&self.options, unit, *grace_ms, cx).await
            }
        }
    }

    async fn obstacles(&self, unit: &Unit, release: &Release) -> Result<Vec<String>, AdapterError> {
        refuse_other_host(unit)?;
        let (options, unit, spec) =
            (Arc::clone(&self.options), unit.clone(), process_spec(unit, release)?.clone());
        blocking(move || obstacles::obstacles(&options, &unit, &spec)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AdapterError> + Send + 'static,
) -> Result<T, AdapterError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(AdapterError::transient(format!("failed to look at processes: {e}")))
    })
}
