//! What is behind a link, and what going back to another release behind it needs.

use backout_core::ids::{ReleaseId, Version};
use backout_core::model::{ReadinessCheck, Release, Severity};
use backout_core::ports::{AdapterError, Observed, Running};

use super::links::Linked;
use super::{dirty, earlier};
use crate::git::{Git, Standing};

/// In the place of a release that is none of ours.
const UNMANAGED: &str = "unmanaged";
const CHECK: &str = "worktree_ready";

impl Linked<'_> {
    /// What link and note say together; `None`: there is no note.
    pub(super) async fn look(&self) -> Result<Option<Observed>, AdapterError> {
        let Some(note) = self.home.read(&self.git).await? else { return Ok(None) };
        let marker = note.marker();
        if self.other_owner(&note).is_some() {
            let marker = marker.filter(|marker| marker.ledger != self.target.options.ledger);
            return Ok(Some(Observed { marker, ..Observed::nothing() }));
        }
        if !note.finished {
            return Ok(Some(Observed { marker, ..Observed::unknown() }));
        }
        let deployment = Some(note.deployment);
        let base = Observed { running: Running::Yes, deployment, marker, ..Observed::nothing() };
        let other = match self.elsewhere(&note) {
            Ok(None) => match self.worktrees.standing(&note.commit)? {
                Standing::Ready => None,
                Standing::Missing => Some("the worktree behind the link is gone".to_owned()),
                other => Some(self.worktrees.unusable(&note.commit, &other).message),
            },
            Ok(other) => other,
            Err(error) => Some(error.message),
        };
        Ok(Some(match other {
            None => Observed { version: Some(note.version), release: Some(note.release), ..base },
            // A switch that was cut short, or somebody's own: it is made again.
            Some(tail) if self.live().is_some() => {
                Observed { release: Some(unmanaged()), tail: Some(tail), deployment: None, ..base }
            }
            Some(tail) => {
                Observed { running: Running::No, tail: Some(tail), deployment: None, ..base }
            }
        }))
    }

    /// What somebody else has put behind the link, for `adopt`; `None`: nothing.
    pub(super) async fn foreign(&self) -> Result<Option<Observed>, AdapterError> {
        if self.live_tree().is_none() {
            return Ok(None);
        }
        let git = self.live_git();
        if git.head().await?.is_none() {
            return Ok(None);
        }
        let label = earlier::label(&git, self.spec, "HEAD").await?;
        let version = Version::new(&label).ok();
        Ok(Some(Observed { running: Running::Yes, version, ..Observed::nothing() }))
    }

    /// Git in what is live: behind the link, else in the repository itself.
    pub(super) fn live_git(&self) -> Git {
        self.live_tree().map_or_else(|| self.git.clone(), |folder| self.git.at(folder))
    }

    /// Above a folder that is no working tree git would find another one.
    fn live_tree(&self) -> Option<std::path::PathBuf> {
        self.live().filter(|folder| folder.join(".git").exists())
    }

    /// What is in the way of the link, or has become of it.
    pub(super) async fn obstacles(&self) -> Result<Vec<String>, AdapterError> {
        let note = self.home.read(&self.git).await?;
        if let Some(other) = note.as_ref().and_then(|note| self.other_owner(note)) {
            return Ok(vec![other]);
        }
        let mut found = Vec::new();
        match note.filter(|note| note.finished) {
            Some(note) => match self.moved_away(&note) {
                Ok(other) => found.extend(other.map(|other| {
                    format!(
                        "{other}: somebody moved it (--override nothing_in_the_way takes it back)"
                    )
                })),
                Err(error) => found.push(error.to_string()),
            },
            None => found.extend(self.leads().err().map(|error| error.to_string())),
        }
        let commit = &self.spec.commit;
        if crate::git::is_commit_id(commit) {
            let (status, message) = self.worktree(commit).await?;
            if status == Severity::Error {
                found.push(message);
            }
        }
        Ok(found)
    }

    pub(super) async fn restorable(
        &self,
        release: &Release,
    ) -> Result<Vec<ReadinessCheck>, AdapterError> {
        let found =
            |status, message| Ok(vec![ReadinessCheck { name: CHECK.to_owned(), status, message }]);
        if let Err(error) = self.leads() {
            return found(Severity::Error, error.to_string());
        }
        let note = self.home.read(&self.git).await?.filter(|note| note.finished);
        if let Some(other) = note.map(|note| self.moved_away(&note)).transpose()?.flatten() {
            let words = format!("{other}: somebody moved it; `--override {CHECK}` takes it back");
            return found(Severity::Error, words);
        }
        let (status, message) = self.worktree(&self.spec.commit).await?;
        let version = release.content.version_of(&self.unit.service);
        found(status, format!("{version}: {message}"))
    }

    /// How the worktree of a commit is, for people.
    async fn worktree(&self, commit: &str) -> Result<(Severity, String), AdapterError> {
        let shown = self.worktrees.path(commit).display().to_string();
        Ok(match self.worktrees.standing(commit)? {
            Standing::Missing | Standing::Half => (
                Severity::Warning,
                format!(
                    "the worktree `{shown}` is not there: it is made from the kept commit first"
                ),
            ),
            Standing::Ready => {
                let changed = self.worktrees.changed(commit, false).await?;
                if changed.is_empty() {
                    (Severity::Pass, format!("the worktree `{shown}` is as its commit has it"))
                } else {
                    let words = format!(
                        "the worktree `{shown}` has changes that no commit holds: {}; commit them elsewhere or `git -C \
                         {shown} stash` them (an override goes to it with them in it)",
                        dirty::sentence(&changed)
                    );
                    (Severity::Error, words)
                }
            }
            other => (Severity::Error, self.worktrees.unusable(commit, &other).to_string()),
        })
    }
}

fn unmanaged() -> ReleaseId {
    ReleaseId::new(UNMANAGED).expect("it is a valid id")
}
