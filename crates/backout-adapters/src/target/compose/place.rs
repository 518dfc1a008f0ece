//! Where an environment's files stand in the state folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use backout_core::ids::{EnvironmentKey, ReleaseId, Unit};
use backout_core::ports::AdapterError;
use serde::{Deserialize, Serialize};

use super::ComposeTargetOptions;
use crate::host::{
    FileLock, Leftover, create_private_dirs, read_bounded, remove_file_if_there, write_atomic,
};

const FORMAT: u32 = 1;

/// `<state>/compose/<app>/<environment>/`.
#[derive(Debug, Clone)]
pub(super) struct Place {
    folder: PathBuf,
}

/// The port that a start was given, so that it gets the same one when it comes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Given {
    pub format: u32,
    pub release: ReleaseId,
    pub deployment: u64,
    pub port: u16,
}

impl Given {
    pub(super) fn new(release: ReleaseId, deployment: u64, port: u16) -> Self {
        Self { format: FORMAT, release, deployment, port }
    }
}

impl Place {
    pub(super) fn of(options: &ComposeTargetOptions, key: &EnvironmentKey) -> Self {
        let folder = options.state_dir.join("compose");
        Self { folder: folder.join(key.app.as_str()).join(key.environment.as_str()) }
    }

    /// Excludes other changes of this environment, of this process and of others, and ends what a killed one left.
    pub(super) async fn enter(&self, patience: Duration) -> Result<FileLock, AdapterError> {
        let failed = |e: std::io::Error| AdapterError::transient(e.to_string());
        create_private_dirs(&self.folder).map_err(failed)?;
        let lock = FileLock::take(&self.folder.join("lock"), patience).await.map_err(failed)?;
        let lock = lock.ok_or_else(|| {
            AdapterError::transient("failed to change containers: another process is at it")
        })?;
        // Asked to end, compose lets the engine finish what it has asked it for.
        self.leftover().end(Duration::from_secs(5)).await.map_err(|why| {
            AdapterError::transient(format!("failed to change containers: {why}"))
        })?;
        Ok(lock)
    }

    pub(super) fn leftover(&self) -> Leftover {
        Leftover::at(self.folder.join("run.json"))
    }

    /// Folder of one slot's copies of config files.
    pub(super) fn definitions(&self, unit: &Unit) -> PathBuf {
        self.folder.join(unit.service.as_str()).join(unit.slot.as_str())
    }

    fn given_path(&self, unit: &Unit) -> PathBuf {
        self.folder.join(format!("{}-{}.json", unit.service, unit.slot))
    }

    pub(super) fn given(&self, unit: &Unit) -> Option<Given> {
        let bytes = read_bounded(&self.given_path(unit), 64 << 10).ok().flatten()?;
        serde_json::from_slice(&bytes).ok().filter(|given: &Given| given.format == FORMAT)
    }

    pub(super) fn remember(&self, unit: &Unit, given: &Given) -> Result<(), AdapterError> {
        let bytes = serde_json::to_vec(given).map_err(std::io::Error::from);
        bytes
            .and_then(|bytes| write_atomic(&self.given_path(unit), &bytes, 0o600))
            .map_err(|e| AdapterError::transient(format!("failed to record a port: {e}")))
    }

    pub(super) fn forget(&self, unit: &Unit) {
        let _ = remove_file_if_there(&self.given_path(unit));
        let _ = crate::artifact::remove_tree(&self.definitions(unit));
    }

    fn adopted_path(&self, unit: &Unit) -> PathBuf {
        self.folder.join(format!("{}.adopted", unit.service))
    }

    /// Remembers which images were running as the unit was adopted, by service of the compose file.
    pub(super) fn adopt(
        &self,
        unit: &Unit,
        images: &BTreeMap<String, String>,
    ) -> Result<(), AdapterError> {
        let failed =
            |e: std::io::Error| AdapterError::transient(format!("failed to record what runs: {e}"));
        create_private_dirs(&self.folder).map_err(failed)?;
        let bytes = serde_json::to_vec(images).map_err(|e| failed(e.into()))?;
        write_atomic(&self.adopted_path(unit), &bytes, 0o600).map_err(failed)
    }

    /// What [`Self::adopt`] has remembered.
    pub(super) fn adopted(&self, unit: &Unit) -> BTreeMap<String, String> {
        let bytes = read_bounded(&self.adopted_path(unit), 1 << 20).ok().flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn ejected_path(&self, unit: &Unit) -> PathBuf {
        self.folder.join(format!("{}.ejected", unit.service))
    }

    /// Remembers containers that were let go: their labels mean nothing any more.
    pub(super) fn eject(&self, unit: &Unit, ids: &[&str]) -> Result<(), AdapterError> {
        let failed = |e: std::io::Error| {
            AdapterError::transient(format!("failed to record what is let go: {e}"))
        };
        create_private_dirs(&self.folder).map_err(failed)?;
        let bytes = serde_json::to_vec(ids).map_err(|e| failed(e.into()))?;
        write_atomic(&self.ejected_path(unit), &bytes, 0o600).map_err(failed)
    }

    /// Ids of containers that [`Self::eject`] has remembered.
    pub(super) fn ejected(&self, unit: &Unit) -> BTreeSet<String> {
        let bytes = read_bounded(&self.ejected_path(unit), 1 << 20).ok().flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// What was remembered of an adoption is of no use any more.
    pub(super) fn forget_adopted(&self, unit: &Unit) {
        let _ = remove_file_if_there(&self.adopted_path(unit));
        let _ = remove_file_if_there(&self.given_path(unit));
    }

    /// Ports that other units were given.
    pub(super) fn taken(&self, but: &Unit) -> Vec<u16> {
        let own = self.given_path(but);
        std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| *path != own && path.extension().is_some_and(|e| e == "json"))
            .filter_map(|path| read_bounded(&path, 64 << 10).ok().flatten())
            .filter_map(|bytes| serde_json::from_slice::<Given>(&bytes).ok())
            .map(|given| given.port)
            .collect()
    }
}
