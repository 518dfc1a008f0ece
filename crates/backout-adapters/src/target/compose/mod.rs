//! Services of a compose file, run by the `docker compose` command.
//!
//! What runs is always a definition of our own making: the release's compose files, resolved by compose itself,
//! with each image replaced by our reference to the pinned one and labels that say whose it is. It goes to compose
//! over stdin, so that values of secrets stand in no file of ours. Slot `a` is the project of the app, slot `b` a
//! second project beside it that shares the first one's named volumes. Nothing here ever removes a volume.

mod check;
mod definition;
mod drill;
mod elsewhere;
mod evidence;
mod farewell;
mod files;
mod labels;
mod links;
mod mend;
mod model;
mod observe;
mod obstacles;
mod parts;
mod place;
mod replicas;
mod roll;
mod start;
mod stop;
mod up;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ids::{EnvironmentKey, HostName, LedgerId, ServiceName, Slot, Unit, Version};
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
use crate::host::not_a_host;

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
    /// Containers are replaced some at a time, so that old and new ones must be able to stand beside each other.
    pub rolls: bool,
}

/// Another host's engine.
#[derive(Clone)]
pub struct ComposeHost {
    /// The host.
    pub name: HostName,
    /// The command for its engine.
    pub docker: Docker,
    /// Keeps the images there.
    pub images: Arc<ImageArtifacts>,
}

/// Runs services by Docker Compose on the engine that the caller's environment chooses, and on those of other hosts.
#[derive(Clone)]
pub struct ComposeTarget {
    options: Arc<ComposeTargetOptions>,
    others: Arc<BTreeMap<HostName, Arc<ComposeTargetOptions>>>,
}

impl ComposeTarget {
    /// A target for one environment.
    #[must_use]
    pub fn new(options: ComposeTargetOptions) -> Self {
        Self { options: Arc::new(options), others: Arc::default() }
    }

    /// Runs units that are on other hosts there. What is noted of each stands in a folder of its own: they do not wait
    /// for each other.
    #[must_use]
    pub fn with_hosts(self, hosts: impl IntoIterator<Item = ComposeHost>) -> Self {
        let options = |host: ComposeHost| {
            let state_dir = self.options.state_dir.join("on").join(host.name.as_str());
            let (docker, images) = (host.docker, host.images);
            let own = ComposeTargetOptions { state_dir, docker, images, ..(*self.options).clone() };
            (host.name, Arc::new(own))
        };
        let others = hosts.into_iter().map(options).collect();
        Self { others: Arc::new(others), ..self }
    }

    /// What a unit's host needs.
    fn of(&self, unit: &Unit) -> Result<&Arc<ComposeTargetOptions>, AdapterError> {
        if unit.host.is_local() {
            return Ok(&self.options);
        }
        self.others.get(&unit.host).ok_or_else(|| not_a_host(unit))
    }

    /// The same for a step: nobody with a newer lease may have worked there.
    fn for_step(
        &self,
        unit: &Unit,
        cx: &StepCx,
    ) -> Result<Arc<ComposeTargetOptions>, AdapterError> {
        let options = self.of(unit)?;
        if options.docker.host().is_none() {
            return Ok(options.clone());
        }
        let docker = options.docker.for_step(unit, cx);
        Ok(Arc::new(ComposeTargetOptions { docker, ..(**options).clone() }))
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

#[async_trait]
impl Target for ComposeTarget {
    fn capabilities(&self) -> Capabilities {
        let side_by_side = self.options.beside;
        Capabilities {
            side_by_side,
            replaces_in_place: !side_by_side,
            // What answers on another host is reached by that host's name.
            addressable: self.others.is_empty(),
            sees_foreign: true,
        }
    }

    async fn observe(
        &self,
        unit: &Unit,
        release: Option<&Release>,
    ) -> Result<Observed, AdapterError> {
        let options = self.of(unit)?;
        let seen = observe::observe(options, unit, release).await?;
        Ok(elsewhere::seen_from_here(&options.docker, seen))
    }

    async fn parts(
        &self,
        unit: &Unit,
        service: &mut Service,
        version: &Version,
        of: PartsOf<'_>,
    ) -> Result<Option<Vec<Artifact>>, AdapterError> {
        let artifacts = parts::parts(self.of(unit)?, unit, service, version, of).await?;
        if let (PartsOf::Running, TargetSpec::Compose(spec)) = (of, &service.target) {
            for (host, options) in self.others.iter().filter(|(host, _)| **host != unit.host) {
                let unit = Unit { host: host.clone(), ..unit.clone() };
                elsewhere::adopt(options, &unit, spec, &artifacts).await?;
            }
        }
        Ok(Some(artifacts))
    }

    async fn not_beside(
        &self,
        unit: &Unit,
        release: &Release,
    ) -> Result<Option<String>, AdapterError> {
        drill::not_beside(self.of(unit)?, unit, release).await
    }

    async fn farewell(
        &self,
        unit: &Unit,
        release: &Release,
        act: Option<&StepCx>,
    ) -> Result<Farewell, AdapterError> {
        farewell::farewell(self.of(unit)?, unit, release, act.is_some()).await
    }

    async fn evidence(
        &self,
        unit: &Unit,
        release: &Release,
        limit_bytes: usize,
    ) -> Result<Vec<NamedText>, AdapterError> {
        evidence::evidence(self.of(unit)?, unit, release, limit_bytes).await
    }

    async fn apply(&self, action: &TargetAction, cx: &StepCx) -> Result<Receipt, AdapterError> {
        match action {
            TargetAction::Start { unit, release, deployment, restore, batch, .. } => {
                let how = (*deployment, *restore, *batch);
                start::start(self.for_step(unit, cx)?.as_ref(), unit, release, how, cx).await
            }
            TargetAction::Confirm { unit, .. } => Err(crate::target::not_guarded(unit)),
            TargetAction::Stop { unit, release, grace_ms } => {
                stop::stop(self.for_step(unit, cx)?.as_ref(), unit, release, *grace_ms, cx).await
            }
        }
    }

    async fn obstacles(&self, unit: &Unit, release: &Release) -> Result<Vec<String>, AdapterError> {
        obstacles::obstacles(self.of(unit)?, unit, release).await
    }
}
