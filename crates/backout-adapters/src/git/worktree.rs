//! Worktrees of one environment: one for each commit, made whole before anything leads there.
//!
//! A label beside each says whether it was made whole, so that half of one is never taken for a release, and that it is
//! ours, so that nothing else is ever removed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backout_core::ports::AdapterError;
use serde::{Deserialize, Serialize};

use super::{Git, Turn, is_commit_id, layout};
use crate::host::{read_bounded, remove_file_if_there, sync_dir, write_atomic};
use crate::target::link;

const FORMAT: u32 = 1;
const LABEL_BYTES: u64 = 64 << 10;
/// Beside the worktrees: the lock of whoever makes or removes them.
const OURS: &str = ".backout";

/// What is known of a worktree beside its content.
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    format: u32,
    commit: String,
    /// Its files are all there, on disk.
    ready: bool,
}

/// How the place of a commit's worktree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Made whole, and still at its commit.
    Ready,
    /// Nothing is there.
    Missing,
    /// Its making, or its removal, was cut short.
    Half,
    /// Somebody has checked out something else in it.
    Moved(String),
    /// Not made by us.
    Foreign,
}

/// Makes, looks at and removes worktrees.
#[derive(Debug, Clone)]
pub struct Worktrees {
    /// In the repository.
    git: Git,
    releases: PathBuf,
    links: Vec<PathBuf>,
    submodules: bool,
    timeout: Duration,
}

impl Worktrees {
    /// Worktrees of the repository of `git` in the folder `releases`, to which `link` may lead.
    #[must_use]
    pub fn new(
        git: Git,
        releases: PathBuf,
        link: PathBuf,
        submodules: bool,
        timeout: Duration,
    ) -> Self {
        Self { git, releases, links: vec![link], submodules, timeout }
    }

    /// The folder that they are in.
    #[must_use]
    pub fn releases(&self) -> &Path {
        &self.releases
    }

    /// The links of another service may lead there too.
    pub(crate) fn add_links_of(&mut self, other: &Self) {
        self.links.extend_from_slice(&other.links);
    }

    /// Where the worktree of a commit is, or would be.
    pub(crate) fn path(&self, commit: &str) -> PathBuf {
        self.releases.join(commit)
    }

    fn label_path(&self, commit: &str) -> PathBuf {
        self.releases.join(format!(".{commit}.json"))
    }

    fn label(&self, commit: &str) -> io::Result<Option<Label>> {
        let Some(bytes) = read_bounded(&self.label_path(commit), LABEL_BYTES)? else {
            return Ok(None);
        };
        Ok(serde_json::from_slice(&bytes).ok())
    }

    fn write_label(&self, commit: &str, ready: bool) -> Result<(), AdapterError> {
        let label = Label { format: FORMAT, commit: commit.to_owned(), ready };
        let bytes = serde_json::to_vec(&label).map_err(io::Error::from);
        bytes
            .and_then(|bytes| write_atomic(&self.label_path(commit), &bytes, 0o644))
            .map_err(|e| self.failed("write to", &e))
    }

    fn failed(&self, doing: &str, error: &io::Error) -> AdapterError {
        let shown = self.releases.display();
        AdapterError::transient(format!("failed to {doing} `{shown}`: {error}"))
    }

    /// How the worktree of a commit is; no process is needed for that.
    pub(crate) fn standing(&self, commit: &str) -> Result<Standing, AdapterError> {
        let path = self.path(commit);
        let there = std::fs::symlink_metadata(&path).is_ok();
        let label = self.label(commit).map_err(|e| self.failed("read labels in", &e))?;
        Ok(match label {
            None if there => Standing::Foreign,
            _ if !there => Standing::Missing,
            Some(label) if label.format == FORMAT && label.ready && label.commit == commit => {
                match layout::git_dir(&path).and_then(|dir| layout::detached_head(&dir)) {
                    Some(head) if head == commit => Standing::Ready,
                    Some(head) => Standing::Moved(head),
                    None => Standing::Moved("a branch, or nothing".to_owned()),
                }
            }
            Some(_) | None => Standing::Half,
        })
    }

    /// Makes the worktree of a commit, if it is not there. Durable once this returns.
    ///
    /// # Errors
    /// Permanent where something else is in its place. Nothing leads to what was made by then.
    pub(crate) async fn ensure(&self, commit: &str) -> Result<PathBuf, AdapterError> {
        let path = self.path(commit);
        if self.standing(commit)? == Standing::Ready {
            return Ok(path);
        }
        std::fs::create_dir_all(&self.releases).map_err(|e| self.failed("make", &e))?;
        let turn = self.git.begin_here(&self.releases.join(OURS), "its worktrees").await?;
        // Whoever held the turn before may have made it.
        match self.standing(commit)? {
            Standing::Ready => return Ok(path),
            Standing::Missing | Standing::Half => self.make(commit, &path, &turn).await?,
            other => return Err(self.unusable(commit, &other)),
        }
        match self.standing(commit)? {
            Standing::Ready => Ok(path),
            other => Err(AdapterError::unknown(format!(
                "failed to make the worktree `{}`: it is {other:?}",
                path.display()
            ))),
        }
    }

    /// Why a worktree can't be used, for people.
    pub(crate) fn unusable(&self, commit: &str, standing: &Standing) -> AdapterError {
        let shown = self.path(commit).display().to_string();
        match standing {
            Standing::Moved(to) => AdapterError::permanent(format!(
                "failed to use `{shown}`: {to} is checked out there, and its commit is another"
            ))
            .with_hint(format!("`git -C {shown} checkout --detach {commit}` brings it back")),
            _ => AdapterError::permanent(format!(
                "failed to use `{shown}`: something that is not of Backout is there"
            ))
            .with_hint("move it away"),
        }
    }

    async fn make(&self, commit: &str, path: &Path, turn: &Turn) -> Result<(), AdapterError> {
        if self.git.commit(commit).await?.is_none() {
            return Err(AdapterError::permanent(format!(
                "failed to check out {commit}: the repository no longer has it"
            ))
            .with_hint("fetch it from where it was pushed"));
        }
        self.write_label(commit, false)?;
        if std::fs::symlink_metadata(path).is_ok() {
            self.take_away(path, turn).await?;
        }
        let shown = path.display().to_string();
        // Twice: a worktree that somebody has removed by hand may still be listed, and even be locked.
        let args = ["worktree", "add", "--quiet", "--force", "--force", "--detach", &shown, commit];
        self.git.change(&args, self.timeout, Some(turn)).await?;
        let made = self.git.at(path.to_owned());
        if self.submodules {
            let args = ["submodule", "--quiet", "update", "--init", "--recursive", "--force"];
            made.change(&args, self.timeout, Some(turn)).await?;
        }
        // Git waits for none of its files, and what belongs to a worktree may be on another disk than its files.
        made.sync(turn, self.timeout).await?;
        self.git.sync(turn, self.timeout).await?;
        sync_dir(&self.releases).map_err(|e| self.failed("sync", &e))?;
        self.write_label(commit, true)
    }

    /// Removes one that nobody needs, with what git remembers of it.
    async fn take_away(&self, path: &Path, turn: &Turn) -> Result<(), AdapterError> {
        let shown = path.display().to_string();
        let args = ["worktree", "remove", "--force", "--force", "--", &shown];
        // It refuses what it does not know, such as half of one.
        self.git.attempt(&args, self.timeout, Some(turn)).await?;
        crate::artifact::remove_tree(path).map_err(|e| self.failed("remove from", &e))
    }

    /// Paths in the worktree of a commit that no commit holds: of tracked files, or of `all` that git does not ignore.
    pub(crate) async fn changed(
        &self,
        commit: &str,
        all: bool,
    ) -> Result<Vec<String>, AdapterError> {
        let git = self.git.at(self.path(commit));
        let untracked = if all { "--untracked-files=normal" } else { "--untracked-files=no" };
        let text = git.look(&["status", "--porcelain=v1", "-z", "--no-renames", untracked]).await?;
        Ok(text.split('\0').filter_map(|record| record.get(3..)).map(str::to_owned).collect())
    }

    /// Removes worktrees of ours that hold a commit of none of `keep`, and returns those that had to stay: no link
    /// leads there, and they hold what no commit does.
    ///
    /// # Errors
    /// When something can't be told or removed.
    pub(crate) async fn prune(&self, keep: &[String]) -> Result<Vec<PathBuf>, AdapterError> {
        if !self.releases.is_dir() {
            return Ok(Vec::new());
        }
        let turn = self.git.begin_here(&self.releases.join(OURS), "its worktrees").await?;
        let mut used = Vec::new();
        for at in &self.links {
            // What can't be told may be live.
            used.extend(link::target(at).map_err(|e| self.failed("prune", &e))?);
        }
        let mut stay = Vec::new();
        for commit in self.labelled()? {
            let path = self.path(&commit);
            if keep.contains(&commit) || is_one_of(&path, &used) {
                continue;
            }
            let holds_more = match self.standing(&commit)? {
                Standing::Ready => !self.changed(&commit, true).await?.is_empty(),
                // Commits may have been made in it that only it knows.
                Standing::Moved(_) => true,
                Standing::Foreign => continue,
                Standing::Missing | Standing::Half => false,
            };
            if holds_more {
                stay.push(path);
                continue;
            }
            self.write_label(&commit, false)?;
            self.take_away(&path, &turn).await?;
            remove_file_if_there(&self.label_path(&commit))
                .map_err(|e| self.failed("remove from", &e))?;
        }
        Ok(stay)
    }

    /// Commits that have a label.
    fn labelled(&self) -> Result<Vec<String>, AdapterError> {
        let mut found = Vec::new();
        let entries = std::fs::read_dir(&self.releases).map_err(|e| self.failed("list", &e))?;
        for entry in entries {
            let name = entry.map_err(|e| self.failed("list", &e))?.file_name();
            let name = name.to_string_lossy();
            let commit = name.strip_prefix('.').and_then(|name| name.strip_suffix(".json"));
            found.extend(commit.filter(|commit| is_commit_id(commit)).map(str::to_owned));
        }
        found.sort();
        Ok(found)
    }
}

/// Whether a path is one of these, whatever way leads there.
fn is_one_of(path: &Path, others: &[PathBuf]) -> bool {
    let whole = |path: &Path| path.canonicalize().ok();
    let real = whole(path);
    others.iter().any(|other| other == path || (real.is_some() && whole(other) == real))
}
