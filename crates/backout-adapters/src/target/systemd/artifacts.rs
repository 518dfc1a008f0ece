//! Copies of artifacts, and the folders that were laid out from them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ids::{EnvironmentKey, HostName, Slot, Unit};
use backout_core::model::{Service, SystemdSpec, TargetSpec};
use backout_core::ports::{AdapterError, ArtifactDigest, ArtifactStore, StepCx};

use super::files::{Files as _, RemoteFiles, Turn};
use super::folders;
use super::place::Place;
use super::there::Others;
use crate::artifact::FileArtifacts;
use crate::host::{Hosts, is_fenced};

/// Keeps artifacts as [`FileArtifacts`] does, and prunes release folders together with the copies they were made from.
pub struct SystemdArtifacts {
    files: Arc<FileArtifacts>,
    folder: PathBuf,
    /// A unit of each service, and how it is defined.
    units: Vec<(Unit, SystemdSpec)>,
    others: Others,
}

impl SystemdArtifacts {
    /// For the services of one environment.
    #[must_use]
    pub fn new<'a>(
        files: Arc<FileArtifacts>,
        folder: &Path,
        key: &EnvironmentKey,
        services: impl Iterator<Item = &'a Service>,
    ) -> Self {
        let units = services.filter_map(|service| {
            let TargetSpec::Systemd(spec) = &service.target else { return None };
            let unit = Unit {
                key: key.clone(),
                service: service.name.clone(),
                host: HostName::local(),
                slot: Slot::A,
            };
            Some((unit, spec.clone()))
        });
        let (folder, units) = (folder.to_owned(), units.collect());
        Self { files, folder, units, others: Others::default() }
    }

    /// Prunes on other hosts too.
    #[must_use]
    pub fn with_hosts(self, hosts: Hosts) -> Self {
        Self { others: Others::new(hosts), ..self }
    }

    /// The sides below a folder that have their releases in one folder, with one of their units.
    fn folders(&self, base: &Path) -> Vec<(Unit, Vec<Place>)> {
        let mut folders: Vec<(Unit, Vec<Place>)> = Vec::new();
        for (unit, spec) in &self.units {
            for slot in Slot::BOTH {
                let place = Place::of(base, spec, &Unit { slot, ..unit.clone() });
                let same = |held: &&mut (Unit, Vec<Place>)| held.1[0].releases == place.releases;
                match folders.iter_mut().find(same) {
                    Some((_, places)) => places.push(place),
                    None => folders.push((unit.clone(), vec![place])),
                }
            }
        }
        folders
    }

    /// On all hosts, also where one of them can't be reached: what is left there goes the next time.
    async fn prune_there(&self, keep: &[ArtifactDigest], cx: &StepCx) -> Result<(), AdapterError> {
        let mut outcome: Result<(), AdapterError> = Ok(());
        for host in self.others.hosts.all() {
            let pruned = async {
                let there = self.others.ask(Arc::clone(host)).await?;
                let files = RemoteFiles { host: Arc::clone(host) };
                for (unit, places) in self.folders(&there.folder) {
                    let unit = Unit { host: host.name().clone(), ..unit };
                    files.prune(&places, keep, &Turn::of(&unit, cx)).await?;
                }
                Ok(())
            };
            match pruned.await {
                Err(fenced) if is_fenced(&fenced) => return Err(fenced),
                pruned => outcome = outcome.and(pruned),
            }
        }
        outcome
    }
}

#[async_trait]
impl ArtifactStore for SystemdArtifacts {
    async fn digest(&self, path: &str) -> Result<ArtifactDigest, AdapterError> {
        self.files.digest(path).await
    }

    async fn pin(&self, path: &str, digest: &str) -> Result<(), AdapterError> {
        self.files.pin(path, digest).await
    }

    async fn verify(&self, digest: &str) -> Result<(), AdapterError> {
        self.files.verify(digest).await
    }

    async fn prune(
        &self,
        keep: &[ArtifactDigest],
        cx: &StepCx,
    ) -> Result<Vec<ArtifactDigest>, AdapterError> {
        // First where somebody with a newer lease is known: nothing of theirs goes here either then.
        let there = self.prune_there(keep, cx).await;
        if let Err(fenced) = &there
            && is_fenced(fenced)
        {
            return there.map(|()| Vec::new());
        }
        let removed = self.files.prune(keep, cx).await?;
        for (_, places) in self.folders(&self.folder) {
            let links: Vec<PathBuf> = places.iter().map(|place| place.link.clone()).collect();
            folders::prune(&places[0].releases, &links, keep).await?;
        }
        there?;
        Ok(removed)
    }
}
