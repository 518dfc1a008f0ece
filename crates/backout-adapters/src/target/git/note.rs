//! What is noted beside a repository of the release in its working tree.

use std::path::{Path, PathBuf};

use backout_core::ids::{EnvironmentKey, LedgerId, ReleaseId, ServiceName, Unit, Version};
use backout_core::ports::AdapterError;
use serde::{Deserialize, Serialize};

use crate::git::{Git, Turn};
use crate::host::{sync_dir, write_synced};

const FORMAT: u32 = 1;
/// Of a note that an older version would take for a half-done move by force.
const GENTLE_FORMAT: u32 = 2;
const MAX_BYTES: u64 = 64 << 10;

/// A path as a note holds it.
pub(super) fn path_text(path: &Path) -> String {
    path.display().to_string()
}

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
    /// Before the first deployment: the branch or commit that was checked out, or where the link led to.
    pub before: Option<String>,
    /// The move was begun without a look at what no commit holds: git refuses to write over that.
    #[serde(default)]
    pub gentle: bool,
    /// With a link: whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// With a link: the folder that it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
}

/// Where the note stands, and the folder of what is kept beside it.
#[derive(Debug, Clone)]
pub(super) struct Home {
    note: PathBuf,
    folder: PathBuf,
}

impl Home {
    /// In the repository. One working tree holds one service.
    pub(super) fn in_tree(git_dir: &Path, unit: &Unit) -> Self {
        let folder = git_dir.join("backout");
        Self { note: folder.join(format!("{}.json", unit.service)), folder }
    }

    /// Beside a link, in the same folder: what makes the one durable does so for the other.
    pub(super) fn beside(link: &Path) -> Self {
        let name = link.file_name().unwrap_or_default().to_string_lossy();
        Self {
            note: link.with_file_name(format!(".{name}.backout.json")),
            folder: link.with_file_name(format!(".{name}.backout")),
        }
    }

    pub(super) fn note(&self) -> &Path {
        &self.note
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) async fn read(&self, git: &Git) -> Result<Option<Note>, AdapterError> {
        let path = &self.note;
        let failed = |why: &dyn std::fmt::Display| {
            AdapterError::permanent(format!("failed to read `{}`: {why}", path.display()))
        };
        let Some(bytes) = git.read_file(path, MAX_BYTES).await? else { return Ok(None) };
        let note: Note = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
        if note.format > GENTLE_FORMAT {
            return Err(failed(&format!(
                "it has format {}, this version knows up to {GENTLE_FORMAT}",
                note.format
            )));
        }
        Ok(Some(note))
    }

    pub(super) async fn write(
        &self,
        git: &Git,
        note: &Note,
        turn: &Turn,
    ) -> Result<(), AdapterError> {
        git.write_file(&self.note, &note.text(&self.note)?, turn).await
    }

    /// A note of this machine, on disk in the folder beside its place. Whoever is killed before it is put there leaves
    /// what the next one writes over.
    pub(super) fn prepare(&self, note: &Note) -> Result<PathBuf, AdapterError> {
        let path = self.folder.join("note");
        let text = note.text(&path)?;
        write_synced(&path, text.as_bytes(), 0o600).map_err(|e| {
            AdapterError::transient(format!("failed to write `{}`: {e}", path.display()))
        })?;
        Ok(path)
    }

    /// Puts what was prepared into its place, durably, with all that was done in the same folder before.
    pub(super) fn put(&self, prepared: &Path) -> std::io::Result<()> {
        std::fs::rename(prepared, &self.note)?;
        sync_dir(self.note.parent().unwrap_or(Path::new("/")))
    }

    /// For the time after a way back that the host goes alone: the note's own place, and where it waits.
    pub(super) async fn write_aside(
        &self,
        git: &Git,
        note: &Note,
        turn: &Turn,
    ) -> Result<(PathBuf, PathBuf), AdapterError> {
        let aside = self.aside();
        git.write_file(&aside, &note.text(&aside)?, turn).await?;
        Ok((self.note.clone(), aside))
    }

    fn aside(&self) -> PathBuf {
        self.note.with_extension("back.json")
    }

    /// What a try of the same start that was cut off has written aside, if it is of this release.
    pub(super) async fn read_aside(
        &self,
        git: &Git,
        release: &ReleaseId,
    ) -> Result<Option<Note>, AdapterError> {
        let bytes = git.read_file(&self.aside(), MAX_BYTES).await?;
        let note = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(note.filter(|note: &Note| note.release == *release))
    }

    pub(super) async fn remove(&self, git: &Git, turn: Option<&Turn>) -> Result<(), AdapterError> {
        git.remove_file(&self.note, turn).await
    }
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
            gentle: false,
            service: None,
            folder: None,
        }
    }

    /// The same, of a move that git is to refuse where it would cost anybody's work.
    pub(super) fn gentle(&self) -> Self {
        Self { format: GENTLE_FORMAT, gentle: true, ..self.clone() }
    }

    /// The same once the whole move is done.
    pub(super) fn finished(&self) -> Self {
        Self { format: FORMAT, finished: true, gentle: false, ..self.clone() }
    }

    fn text(&self, path: &Path) -> Result<String, AdapterError> {
        serde_json::to_string_pretty(self).map_err(|e| {
            AdapterError::permanent(format!("failed to write `{}`: {e}", path.display()))
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
