//! Copies of artifacts, and the folders that were laid out from them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ids::{EnvironmentKey, HostName, Slot, Unit};
use backout_core::model::{Service, TargetSpec};
use backout_core::ports::{AdapterError, ArtifactDigest, ArtifactStore};

use super::folders;
use super::place::Place;
use crate::artifact::FileArtifacts;

/// Keeps artifacts as [`FileArtifacts`] does, and prunes release folders together with the copies they were made from.
pub struct SystemdArtifacts {
    files: Arc<FileArtifacts>,
    /// Folders of releases, each with the links that lead there.
    folders: Vec<(PathBuf, Vec<PathBuf>)>,
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
        let mut folders: Vec<(PathBuf, Vec<PathBuf>)> = Vec::new();
        for service in services {
            let TargetSpec::Systemd(spec) = &service.target else { continue };
            for slot in Slot::BOTH {
                let unit = Unit {
                    key: key.clone(),
                    service: service.name.clone(),
                    host: HostName::local(),
                    slot,
                };
                let place = Place::of(folder, spec, &unit);
                match folders.iter_mut().find(|(releases, _)| *releases == place.releases) {
                    Some((_, links)) => links.push(place.link),
                    None => folders.push((place.releases, vec![place.link])),
                }
            }
        }
        Self { files, folders }
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

    async fn prune(&self, keep: &[ArtifactDigest]) -> Result<Vec<ArtifactDigest>, AdapterError> {
        let removed = self.files.prune(keep).await?;
        for (releases, links) in &self.folders {
            folders::prune(releases, links, keep).await?;
        }
        Ok(removed)
    }
}
