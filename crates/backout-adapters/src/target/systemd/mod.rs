//! Units of systemd whose program is reached through a link.
//!
//! A release is a folder of its own that is written once; the link that the unit names leads to the one that runs, and
//! is replaced in one rename before the unit is started anew. A note beside the link says which release that is, for
//! which deployment, and whether the start was finished: neither link nor unit alone can tell. Unit files are the
//! user's: they are looked at and never written.
//!
//! A unit whose name holds `{slot}` stands twice, each with a link and a port of its own, so that two releases run
//! side by side.

mod artifacts;
mod check;
mod definition;
mod folders;
mod note;
mod observe;
mod obstacles;
mod parts;
mod pieces;
mod place;
mod readiness;
mod rehearsal;
mod start;
mod stop;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use backout_core::ids::{EnvironmentKey, LedgerId, ReleaseId, ServiceName, Slot, Unit, Version};
use backout_core::model::{
    Artifact, ReadinessCheck, Release, Service, SystemdBus, SystemdSpec, TargetSpec,
};
use backout_core::ports::{
    AdapterError, Capabilities, Farewell, NamedText, Observed, PartsOf, Receipt, Rehearsal, StepCx,
    Target, TargetAction,
};

pub use artifacts::SystemdArtifacts;
pub use check::{Finding, check};
pub use definition::own_files;

use crate::artifact::FileArtifacts;
use crate::systemd::{Journal, Manager};
use crate::target::link;
use place::Place;

/// In the place of a release that is none of ours.
const UNMANAGED: &str = "unmanaged";

/// What a [`SystemdTarget`] needs to know.
#[derive(Debug, Clone)]
pub struct SystemdTargetOptions {
    /// The state folder.
    pub state_dir: PathBuf,
    /// The folder of `backout.yaml`.
    pub folder: PathBuf,
    /// App and environment.
    pub key: EnvironmentKey,
    /// The ledger that manages what is started here.
    pub ledger: LedgerId,
    /// Copies of artifacts.
    pub artifacts: Arc<FileArtifacts>,
    /// Today's services.
    pub services: BTreeMap<ServiceName, Service>,
    /// There is a router: both slots are used.
    pub beside: bool,
}

/// Runs services as units of systemd.
#[derive(Clone)]
pub struct SystemdTarget {
    options: Arc<SystemdTargetOptions>,
    /// One for each bus, made with the first question.
    managers: Arc<Mutex<Vec<Arc<Manager>>>>,
}

impl SystemdTarget {
    /// A target for one environment.
    #[must_use]
    pub fn new(options: SystemdTargetOptions) -> Self {
        Self { options: Arc::new(options), managers: Arc::default() }
    }

    fn manager(&self, bus: &SystemdBus) -> Arc<Manager> {
        let mut managers = self.managers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(manager) = managers.iter().find(|manager| manager.bus() == bus) {
            return Arc::clone(manager);
        }
        let manager = Arc::new(Manager::new(bus.clone()));
        managers.push(Arc::clone(&manager));
        manager
    }

    /// A unit's service with all that is needed to work on it; `None` where it has no such side.
    fn side(&self, unit: &Unit, release: Option<&Release>) -> Result<Option<Side>, AdapterError> {
        refuse_other_host(unit)?;
        let services = release.map_or(&self.options.services, |release| &release.content.services);
        let Some(TargetSpec::Systemd(spec)) = services.get(&unit.service).map(|s| &s.target) else {
            return Err(AdapterError::permanent(format!(
                "failed to use {unit}: it has no service of target `systemd`"
            )));
        };
        if unit.slot != Slot::A && !spec.has_slots() {
            return Ok(None);
        }
        Ok(Some(self.side_of(unit, spec)))
    }

    fn side_of(&self, unit: &Unit, spec: &SystemdSpec) -> Side {
        // By which way the manager is reached is for today's file to say.
        let today = match self.options.services.get(&unit.service).map(|s| &s.target) {
            Some(TargetSpec::Systemd(today)) => today,
            _ => spec,
        };
        let root = today.root.as_ref().map(PathBuf::from);
        Side {
            options: Arc::clone(&self.options),
            manager: self.manager(&today.bus),
            unit: unit.clone(),
            place: Place::of(&self.options.folder, spec, unit),
            journal: Journal { root: root.clone(), bus: today.bus.clone() },
            root,
            spec: spec.clone(),
        }
    }

    /// The same where there must be one.
    fn known_side(&self, unit: &Unit, release: Option<&Release>) -> Result<Side, AdapterError> {
        self.side(unit, release)?.ok_or_else(|| {
            AdapterError::permanent(format!(
                "failed to use {unit}: two releases side by side need a unit for each of them"
            ))
            .with_hint("write `unit: \"NAME@{slot}.service\"`, a template of systemd")
        })
    }
}

/// One service in one slot.
#[derive(Clone)]
struct Side {
    options: Arc<SystemdTargetOptions>,
    manager: Arc<Manager>,
    unit: Unit,
    spec: SystemdSpec,
    place: Place,
    journal: Journal,
    /// Where the manager's files are seen from here, if elsewhere than it says.
    root: Option<PathBuf>,
}

impl Side {
    /// The same service in another slot.
    fn in_slot(&self, slot: Slot) -> Self {
        let unit = Unit { slot, ..self.unit.clone() };
        let place = Place::of(&self.options.folder, &self.spec, &unit);
        Self { unit, place, ..self.clone() }
    }
}

fn refuse_other_host(unit: &Unit) -> Result<(), AdapterError> {
    if unit.host.as_str() == "local" {
        return Ok(());
    }
    Err(AdapterError::permanent(format!(
        "failed to use {unit}: target `systemd` runs units of this machine only"
    ))
    .with_hint("take hosts: out of backout.yaml"))
}

fn unmanaged() -> ReleaseId {
    ReleaseId::new(UNMANAGED).expect("it is a valid id")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AdapterError> + Send + 'static,
) -> Result<T, AdapterError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(AdapterError::unknown(format!("failed to finish work on a release folder: {e}")))
    })
}

#[async_trait]
impl Target for SystemdTarget {
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
        match self.side(unit, release)? {
            Some(side) => side.observe(release).await,
            None => Ok(Observed::nothing()),
        }
    }

    async fn parts(
        &self,
        unit: &Unit,
        service: &mut Service,
        version: &Version,
        of: PartsOf<'_>,
    ) -> Result<Option<Vec<Artifact>>, AdapterError> {
        parts::parts(self, unit, service, version, of).await.map(Some)
    }

    async fn evidence(
        &self,
        unit: &Unit,
        release: &Release,
        limit_bytes: usize,
    ) -> Result<Vec<NamedText>, AdapterError> {
        match self.side(unit, Some(release))? {
            Some(side) => side.evidence(release, limit_bytes).await,
            None => Ok(Vec::new()),
        }
    }

    async fn restorable(
        &self,
        unit: &Unit,
        release: &Release,
    ) -> Result<Vec<ReadinessCheck>, AdapterError> {
        self.known_side(unit, Some(release))?.restorable(release).await
    }

    async fn rehearse(&self, unit: &Unit, release: &Release) -> Result<Rehearsal, AdapterError> {
        self.known_side(unit, Some(release))?.rehearse(release).await
    }

    async fn farewell(
        &self,
        unit: &Unit,
        release: &Release,
        act: bool,
    ) -> Result<Farewell, AdapterError> {
        match self.side(unit, Some(release))? {
            Some(side) => side.farewell(act).await,
            None => Ok(Farewell::default()),
        }
    }

    async fn apply(&self, action: &TargetAction, cx: &StepCx) -> Result<Receipt, AdapterError> {
        match action {
            TargetAction::Start { unit, release, deployment, restore, .. } => {
                let side = self.known_side(unit, Some(release))?;
                side.start(release, *deployment, *restore, cx).await
            }
            TargetAction::Confirm { unit, .. } => Err(crate::target::not_guarded(unit)),
            TargetAction::Stop { unit, release, .. } => match self.side(unit, Some(release))? {
                Some(side) => side.stop(cx).await,
                None => Ok(Receipt::default()),
            },
        }
    }

    async fn obstacles(&self, unit: &Unit, release: &Release) -> Result<Vec<String>, AdapterError> {
        match self.side(unit, Some(release))? {
            Some(side) => side.obstacles(release).await,
            None => Ok(Vec::new()),
        }
    }
}
