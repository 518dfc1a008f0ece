//! What is noted beside a repository of the release in its working tree.

use std::path::{Path, PathBuf};

use backout_core::ids::{EnvironmentKey, LedgerId, ReleaseId, Unit, Version};
use backout_core::ports::AdapterError;
use serde::{Deserialize, Serialize};

use crate::git::{Git, Turn};

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

    pub(super) fn path(git_dir: &Path, unit: &Unit) -> PathBuf {
        Self::folder(git_dir).join(format!("{}.json", unit.service))
    }

    pub(super) async fn read(
        git: &Git,
        git_dir: &Path,
        unit: &Unit,
    ) -> Result<Option<Note>, AdapterError> {
        let path = Self::path(git_dir, unit);
        let failed = |why: &dyn std::fmt::Display| {
            AdapterError::permanent(format!("failed to read `{}`: {why}", path.display()))
        };
        let Some(bytes) = git.read_file(&path, MAX_BYTES).await? else { return Ok(None) };
        let note: Note = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
        if note.format > FORMAT {
            return Err(failed(&format!(
                "it has format {}, this version knows up to {FORMAT}",
                note.format
            )));
        }
        Ok(Some(note))
    }

    pub(super) async fn write(
        &self,
        git: &Git,
        git_dir: &Path,
        unit: &Unit,
    ) -> Result<(), AdapterError> {
        self.write_to(git, &Self::path(git_dir, unit)).await
    }

    /// For the time after a way back that the host goes alone: the note's own place, and where it waits.
    pub(super) async fn write_aside(
        &self,
        git: &Git,
        git_dir: &Path,
        unit: &Unit,
    ) -> Result<(PathBuf, PathBuf), AdapterError> {
        let path = Self::path(git_dir, unit);
        let aside = path.with_extension("back.json");
        self.write_to(git, &aside).await?;
        Ok((path, aside))
    }

    async fn write_to(&self, git: &Git, path: &Path) -> Result<(), AdapterError> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|e| {
            AdapterError::permanent(format!("failed to write `{}`: {e}", path.display()))
        })?;
        git.write_file(path, &bytes).await
    }

    pub(super) async fn remove(
        git: &Git,
        git_dir: &Path,
        unit: &Unit,
        turn: Option<&Turn>,
    ) -> Result<(), AdapterError> {
        git.remove_file(&Self::path(git_dir, unit), turn).await
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
