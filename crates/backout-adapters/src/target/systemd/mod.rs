//! Units of systemd whose program is reached through a link.
//!
//! A release is a folder of its own that is written once; the link that the unit names leads to the one that runs, and
//! is replaced in one rename before the unit is started anew. A note beside the link says which release that is, for
//! which deployment, and whether the start was finished: neither link nor unit alone can tell. Unit files are the
//! user's: they are looked at and never written. On another host the same is done over one connection to it: its bus is
//! reached through that, and its files are worked on by commands.
//!
//! A unit whose name holds `{slot}` stands twice, each with a link and a port of its own, so that two releases run
//! side by side.

mod artifacts;
mod check;
mod definition;
mod files;
mod folders;
mod guard;
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
mod there;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use backout_core::ids::{
    EnvironmentKey, HostName, LedgerId, ReleaseId, ServiceName, Slot, Unit, Version,
};
use backout_core::model::{
    Artifact, ReadinessCheck, Release, Service, SystemdBus, SystemdSpec, TargetSpec,
};
use backout_core::ports::{
    AdapterError, Capabilities, Farewell, Host, NamedText, Observed, PartsOf, Receipt, Rehearsal,
    StepCx, Target, TargetAction,
};

pub use artifacts::SystemdArtifacts;
pub use check::{Finding, check};
pub use definition::own_files;

use crate::artifact::FileArtifacts;
use crate::host::Hosts;
use crate::systemd::{Elsewhere, Journal, Manager};
use crate::target::{confirm, link, not_guarded};
use files::{Files, LocalFiles, RemoteFiles};
use place::Place;
use start::Wanted;
use there::{Others, There};

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

/// By the machines that they run on.
type Managers = Vec<(HostName, Arc<Manager>)>;

/// Runs services as units of systemd.
#[derive(Clone)]
pub struct SystemdTarget {
    options: Arc<SystemdTargetOptions>,
    /// One for each bus, made with the first question.
    managers: Arc<Mutex<Managers>>,
    others: Others,
    /// It has units of this machine.
    here: bool,
}

impl SystemdTarget {
    /// A target for one environment.
    #[must_use]
    pub fn new(options: SystemdTargetOptions) -> Self {
        let others = Others::default();
        Self { options: Arc::new(options), managers: Arc::default(), others, here: true }
    }

    /// Runs units of other hosts too, where a unit is there; `here`: and of this machine.
    #[must_use]
    pub fn with_hosts(self, hosts: Hosts, here: bool) -> Self {
        Self { others: Others::new(hosts), here, ..self }
    }

    /// The machines that have units.
    fn machines(&self) -> Vec<HostName> {
        let here = self.here.then(HostName::local);
        let there = self.others.hosts.all().map(|host| host.name().clone());
        here.into_iter().chain(there).collect()
    }

    fn manager(&self, there: Option<&There>, bus: &SystemdBus) -> Arc<Manager> {
        let name = there.map_or_else(HostName::local, |there| there.host.name().clone());
        let mut managers = self.managers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = managers.iter().find(|(host, manager)| *host == name && manager.bus() == bus);
        if let Some((_, manager)) = known {
            return Arc::clone(manager);
        }
        let manager = Arc::new(match there {
            Some(there) => {
                let elsewhere = Elsewhere { host: Arc::clone(&there.host), user: there.user };
                Manager::of_host(elsewhere, bus.clone())
            }
            None => Manager::new(bus.clone()),
        });
        managers.push((name, Arc::clone(&manager)));
        manager
    }

    /// A unit's service with all that is needed to work on it; `None` where it has no such side.
    async fn side(
        &self,
        unit: &Unit,
        release: Option<&Release>,
    ) -> Result<Option<Side>, AdapterError> {
        let services = release.map_or(&self.options.services, |release| &release.content.services);
        let Some(TargetSpec::Systemd(spec)) = services.get(&unit.service).map(|s| &s.target) else {
            return Err(AdapterError::permanent(format!(
                "failed to use {unit}: it has no service of target `systemd`"
            )));
        };
        if unit.slot != Slot::A && !spec.has_slots() {
            return Ok(None);
        }
        self.side_of(unit, spec).await.map(Some)
    }

    async fn side_of(&self, unit: &Unit, spec: &SystemdSpec) -> Result<Side, AdapterError> {
        // By which way the manager is reached is for today's file to say.
        let today = match self.options.services.get(&unit.service).map(|s| &s.target) {
            Some(TargetSpec::Systemd(today)) => today,
            _ => spec,
        };
        let there = self.others.of(unit).await?;
        let root = today.root.as_ref().map(PathBuf::from).filter(|_| there.is_none());
        let host = there.as_ref().map(|there| Arc::clone(&there.host));
        let (base, files): (_, Arc<dyn Files>) = match &there {
            Some(there) => {
                let files = RemoteFiles { host: Arc::clone(&there.host) };
                (there.folder.clone(), Arc::new(files))
            }
            None => {
                let folder = self.options.folder.clone();
                let unit = spec.unit.clone();
                let files = LocalFiles { folder: folder.clone(), unit, root: root.clone() };
                (folder, Arc::new(files))
            }
        };
        Ok(Side {
            options: Arc::clone(&self.options),
            manager: self.manager(there.as_ref(), &today.bus),
            unit: unit.clone(),
            place: Place::of(&base, spec, unit),
            journal: Journal { host: host.clone(), root, bus: today.bus.clone() },
            spec: spec.clone(),
            user: there.map_or(0, |there| there.user),
            base,
            files,
            host,
        })
    }

    /// The same where there must be one.
    async fn known_side(
        &self,
        unit: &Unit,
        release: Option<&Release>,
    ) -> Result<Side, AdapterError> {
        self.side(unit, release).await?.ok_or_else(|| {
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
    files: Arc<dyn Files>,
    /// Where it is, if on another host.
    host: Option<Arc<dyn Host>>,
    /// The login's user there.
    user: u32,
    /// What paths of the definition are relative to.
    base: PathBuf,
}

impl Side {
    /// The same service in another slot.
    fn in_slot(&self, slot: Slot) -> Self {
        let unit = Unit { slot, ..self.unit.clone() };
        let place = Place::of(&self.base, &self.spec, &unit);
        Self { unit, place, ..self.clone() }
    }

    /// The same as another release defines it.
    fn of_release(&self, release: &Release) -> Result<Self, AdapterError> {
        let service = release.content.services.get(&self.unit.service);
        let Some(TargetSpec::Systemd(spec)) = service.map(|service| &service.target) else {
            return Err(AdapterError::permanent(format!(
                "failed to go back on {}: release {} has no such service of target `systemd`",
                self.unit, release.id
            )));
        };
        let place = Place::of(&self.base, spec, &self.unit);
        Ok(Self { spec: spec.clone(), place, ..self.clone() })
    }
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
        match self.side(unit, release).await? {
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
        match self.side(unit, Some(release)).await? {
            Some(side) => side.evidence(release, limit_bytes).await,
            None => Ok(Vec::new()),
        }
    }

    async fn restorable(
        &self,
        unit: &Unit,
        release: &Release,
    ) -> Result<Vec<ReadinessCheck>, AdapterError> {
        self.known_side(unit, Some(release)).await?.restorable(release).await
    }

    async fn prepare(
        &self,
        unit: &Unit,
        release: &Release,
        cx: &StepCx,
    ) -> Result<(), AdapterError> {
        self.known_side(unit, Some(release)).await?.prepare(release, cx).await
    }

    async fn rehearse(
        &self,
        unit: &Unit,
        release: &Release,
        cx: &StepCx,
    ) -> Result<Rehearsal, AdapterError> {
        self.known_side(unit, Some(release)).await?.rehearse(release, cx).await
    }

    async fn farewell(
        &self,
        unit: &Unit,
        release: &Release,
        act: Option<&StepCx>,
    ) -> Result<Farewell, AdapterError> {
        match self.side(unit, Some(release)).await? {
            Some(side) => side.farewell(act).await,
            None => Ok(Farewell::default()),
        }
    }

    async fn apply(&self, action: &TargetAction, cx: &StepCx) -> Result<Receipt, AdapterError> {
        match action {
            TargetAction::Start { unit, release, deployment, restore, revert, .. } => {
                let (deployment, restore, revert) = (*deployment, *restore, revert.as_ref());
                if revert.is_some() && unit.host.is_local() {
                    return Err(not_guarded(unit));
                }
                let side = self.known_side(unit, Some(release)).await?;
                side.start(Wanted { release, deployment, restore, revert }, cx).await
            }
            TargetAction::Confirm { unit, deployment, .. } => match self.others.hosts.of(unit)? {
                Some(host) => confirm(host.as_ref(), unit, *deployment).await,
                None => Err(not_guarded(unit)),
            },
            TargetAction::Stop { unit, release, .. } => match self.side(unit, Some(release)).await?
            {
                Some(side) => side.stop(cx).await,
                None => Ok(Receipt::default()),
            },
        }
    }

    async fn obstacles(&self, unit: &Unit, release: &Release) -> Result<Vec<String>, AdapterError> {
        match self.side(unit, Some(release)).await? {
            Some(side) => side.obstacles(release).await,
            None => Ok(Vec::new()),
        }
    }
}
