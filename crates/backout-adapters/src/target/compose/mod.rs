//! Services of a compose file, run by the `docker compose` command.
//!
//! What runs is always a definition of our own making: the release's compose files, resolved by compose itself,
//! with each image replaced by our reference to the pinned one and labels that say whose it is. It goes to compose
//! over stdin, so that values of secrets stand in no file of ours. Slot `a` is the project of the app, slot `b` a
//! second project beside it that shares the first one's named volumes. Nothing here ever removes a volume.

mod check;
mod definition;
mod drill;
mod evidence;
mod farewell;
mod files;
mod labels;
mod links;
mod model;
mod observe;
mod obstacles;
mod parts;
mod place;
mod start;
mod stop;
mod up;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ids::{EnvironmentKey, LedgerId, ServiceName, Slot, Unit, Version};
use backout_core::model::{Artifact, ComposeSpec, Release, Service, TargetSpec};
use backout_core::ports::{
    AdapterError, Capabilities, Farewell, NamedText, Observed, PartsOf, Receipt, Secrets, StepCx,
    Target, TargetAction,
};

pub use check::{Finding, check};
pub use files::definition_files;

use super::ConfigBlobs;
use crate::artifact::ImageArtifacts;
use crate::docker::Docker;

/// How long a start or stop waits for an engine that does not answer, as while it is started again.
const ENGINE_PATIENCE: Duration = Duration::from_secs(30);

/// What a [`ComposeTarget`] needs to know.
#[derive(Clone)]
pub struct ComposeTargetOptions {
    /// The state folder.
    pub state_dir: PathBuf,
    /// The folder of `backout.yaml`.
    pub folder: PathBuf,
    /// App and environment.
    pub key: EnvironmentKey,
    /// The ledger that manages what is started here.
    pub ledger: LedgerId,
    /// The engine.
    pub docker: Docker,
    /// Keeps the images.
    pub images: Arc<ImageArtifacts>,
    /// Config files of releases.
    pub blobs: Arc<dyn ConfigBlobs>,
    /// Today's services.
    pub services: BTreeMap<ServiceName, Service>,
    /// Today's values of secret keys.
    pub secrets: Secrets,
    /// There is a router: both slots are used, each on a port of its own.
    pub beside: bool,
}

/// Runs services by Docker Compose on the engine that the caller's environment chooses.
#[derive(Clone)]
pub struct ComposeTarget {
    options: Arc<ComposeTargetOptions>,
}

impl ComposeTarget {
    /// A target for one environment.
    #[must_use]
    pub fn new(options: ComposeTargetOptions) -> Self {
        Self { options: Arc::new(options) }
    }
}

impl ComposeTargetOptions {
    /// The definition of a unit's service: the release's, else today's.
    fn spec<'a>(
        &'a self,
        unit: &Unit,
        release: Option<&'a Release>,
    ) -> Result<&'a ComposeSpec, AdapterError> {
        let services = release.map_or(&self.services, |release| &release.content.services);
        match services.get(&unit.service).map(|service| &service.target) {
            Some(TargetSpec::Compose(spec)) => Ok(spec),
            Some(_) => Err(AdapterError::permanent(format!(
                "failed to use {unit}: its service is not of target `compose`"
            ))),
            None => Err(AdapterError::permanent(format!(
                "failed to use {unit}: there is no service `{}`",
                unit.service
            ))),
        }
    }
}

/// The compose project of a slot.
fn project(spec: &ComposeSpec, slot: Slot) -> String {
    match slot {
        Slot::A => spec.project.clone(),
        Slot::B => format!("{}-b", spec.project),
    }
}

fn refuse_other_host(unit: &Unit) -> Result<(), AdapterError> {
    if unit.host.as_str() == "local" {
        return Ok(());
    }
    Err(AdapterError::permanent(format!(
        "failed to use {unit}: target `compose` runs on this machine's engine only"
    ))
    .with_hint("take hosts: out of backout.yaml"))
}

#[async_trait]
impl Target for ComposeTarget {
    fn capabilities(&self) -> Capabilities {
        let side_by_side = self.options.beside;
        Capabilities {
            side_by_side,
            replaces_in_place: !side_by_side,
            addressable: true,
            sees_foreign: true,
        }
    }

    async fn observe(
        &self,
        unit: &Unit,
        release: Option<&Release>,
    ) -> Result<Observed, AdapterError> {
        refuse_other_host(unit)?;
        observe::observe(&self.options, unit, release).await
    }

    async fn parts(
        &self,
        unit: &Unit,
        service: &mut Service,
        version: &Version,
        of: PartsOf<'_>,
    ) -> Result<Option<Vec<Artifact>>, AdapterError> {
        refuse_other_host(unit)?;
        parts::parts(&self.options, unit, service, version, of).await.map(Some)
    }

    async fn not_beside(
        &self,
        unit: &Unit,
        release: &Release,
    ) -> Result<Option<String>, AdapterError> {
        drill::not_beside(&self.options, unit, release).await
    }

    async fn farewell(
        &self,
        unit: &Unit,
        release: &Release,
        act: bool,
    ) -> Result<Farewell, AdapterError> {
        farewell::farewell(&self.options, unit, release, act).await
    }

    async fn evidence(
        &self,
        unit: &Unit,
        release: &Release,
        limit_bytes: usize,
    ) -> Result<Vec<NamedText>, AdapterError> {
        refuse_other_host(unit)?;
        evidence::evidence(&self.options, unit, release, limit_bytes).await
    }

    async fn apply(&self, action: &TargetAction, cx: &StepCx) -> Result<Receipt, AdapterError> {
        match action {
            TargetAction::Start { unit, release, deployment, .. } => {
                refuse_other_host(unit)?;
                start::start(&self.options, unit, release, *deployment, cx).await
            }
            TargetAction::Confirm { unit, .. } => Err(crate::target::not_guarded(unit)),
            TargetAction::Stop { unit, release, grace_ms } => {
                refuse_other_host(unit)?;
                stop::stop(&self.options, unit, release, *grace_ms, cx).await
            }
        }
    }

    async fn obstacles(&self, unit: &Unit, release: &Release) -> Result<Vec<String>, AdapterError> {
        refuse_other_host(unit)?;
        obstacles::obstacles(&self.options, unit, release).await
    }
}
