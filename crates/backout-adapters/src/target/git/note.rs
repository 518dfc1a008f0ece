//! What is noted beside a repository of the release in its working tree.

use std::path::{Path, PathBuf};

use backout_core::ids::{EnvironmentKey, LedgerId, ReleaseId, Unit, Version};
use backout_core::ports::AdapterError;
use serde::{Deserialize, Serialize};

use crate::host::{create_private_dirs, read_bounded, remove_file_if_there, write_atomic};

const FORMAT: u32 = 1;
const MAX_BYTES: u64 = 64 << 10;

/// The release in a working tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Version of this format.
    pub format: u32,
    /// Whose it is.
    pub key: EnvironmentKey,
    /// The ledger that manages it.
    pub ledger: LedgerId,
    /// The release.
    pub release: ReleaseId,
    /// Its label.
    pub version: Version,
    /// The deployment it runs for.
    pub deployment: u64,
    /// Its commit.
    pub commit: String,
    /// The whole move is done, with what runs after it.
    pub finished: bool,
    /// Before the first deployment: the branch or commit that was checked out.
    pub before: Option<String>,
}

impl Note {
    pub(super) fn new(
        unit: &Unit,
        ledger: &LedgerId,
        release: &backout_core::model::Release,
        commit: &str,
        deployment: u64,
    ) -> Self {
        Self {
            format: FORMAT,
            key: unit.key.clone(),
            ledger: ledger.clone(),
            release: release.id.clone(),
            version: release.content.version.clone(),
            deployment,
            commit: commit.to_owned(),
            finished: false,
            before: None,
        }
    }

    /// The folder of notes of a repository. One working tree holds one service.
    pub(super) fn folder(git_dir: &Path) -> PathBuf {
        git_dir.join("backout")
    }

    fn path(git_dir: &Path, unit: &Unit) -> PathBuf {
        Self::folder(git_dir).join(format!("{}.json", unit.service))
    }

    pub(super) fn read(git_dir: &Path, unit: &Unit) -> Result<Option<Note>, AdapterError> {
        let path = Self::path(git_dir, unit);
        let failed = |why: &dyn std::fmt::Display| {
            AdapterError::permanent(format!("failed to read `{}`: {why}", path.display()))
        };
        let Some(bytes) = read_bounded(&path, MAX_BYTES).map_err(|e| failed(&e))? else {
            return Ok(None);
        };
        let note: Note = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
        if note.format > FORMAT {
            return Err(failed(&format!(
                "it has format {}, this version knows up to {FORMAT}",
                note.format
            )));
        }
        Ok(Some(note))
    }

    pub(super) fn write(&self, git_dir: &Path, unit: &Unit) -> Result<(), AdapterError> {
        let path = Self::path(git_dir, unit);
        let written =
            serde_json::to_vec_pretty(self).map_err(std::io::Error::from).and_then(|bytes| {
                create_private_dirs(&Self::folder(git_dir))?;
                write_atomic(&path, &bytes, 0o600)
            });
        written.map_err(|e| {
            AdapterError::transient(format!("failed to write `{}`: {e}", path.display()))
        })
    }

    pub(super) fn remove(git_dir: &Path, unit: &Unit) -> Result<(), AdapterError> {
        let path = Self::path(git_dir, unit);
        remove_file_if_there(&path).map(drop).map_err(|e| {
            AdapterError::transient(format!("failed to remove `{}`: {e}", path.display()))
        })
    }

    /// Says so if another environment or ledger manages the working tree.
    pub(super) fn other_owner(&self, unit: &Unit, ledger: &LedgerId) -> Option<String> {
        if self.key != unit.key {
            return Some(format!(
                "this working tree belongs to {}: give each environment one of its own (`git worktree add`)",
                self.key
            ));
        }
        (self.ledger != *ledger)
            .then(|| format!("ledger {} manages this working tree, not {ledger}", self.ledger))
    }
}
