//! Where a link and its worktrees stand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backout_core::ids::{EnvironmentKey, Unit};
use backout_core::model::{GitLink, GitSpec, TargetSpec};
use backout_core::ports::AdapterError;

use super::GitTarget;
use super::note::{Home, Note};
use crate::git::{Git, Worktrees};
use crate::target::link;

/// The worktrees of a service, for a repository that `git` runs in.
#[must_use]
pub fn worktrees(
    folder: &Path,
    key: &EnvironmentKey,
    (spec, link): (&GitSpec, &GitLink),
    git: Git,
) -> Worktrees {
    // Names of what is made carry app and environment.
    let releases = below(folder, &link.releases).join(format!("{}.{}", key.app, key.environment));
    let timeout = Duration::from_millis(spec.timeout_ms);
    Worktrees::new(git, releases, below(folder, &link.current), spec.submodules, timeout)
}

/// A path of the definition, below the folder of `backout.yaml` unless it is absolute.
fn below(folder: &Path, written: &str) -> PathBuf {
    let joined = folder.join(written);
    std::path::absolute(&joined).unwrap_or(joined).components().collect()
}

/// One service behind a link.
pub(super) struct Linked<'a> {
    pub target: &'a GitTarget,
    pub unit: &'a Unit,
    pub spec: &'a GitSpec,
    /// In the repository.
    pub git: Git,
    pub link: PathBuf,
    pub worktrees: Worktrees,
    pub home: Home,
}

impl GitTarget {
    /// How a unit's releases stand. That is for today's file to say: what serves them is looked for there, also by a
    /// release of a time when they stood elsewhere.
    pub(super) fn linked<'a>(
        &'a self,
        unit: &'a Unit,
        spec: &'a GitSpec,
    ) -> Result<Option<Linked<'a>>, AdapterError> {
        let today = match self.options.services.get(&unit.service).map(|it| &it.target) {
            Some(TargetSpec::Git(today)) => today,
            _ => spec,
        };
        let Some(wanted) = &today.link else { return Ok(None) };
        let git = self.git(unit, spec)?;
        if git.host().is_some() {
            return Err(AdapterError::permanent(format!(
                "failed to use {unit}: a link to worktrees is switched on this machine only"
            ))
            .with_hint(
                "take `current` out of target.git, or run backout there with `hosts` left out",
            ));
        }
        let link = below(&self.options.folder, &wanted.current);
        Ok(Some(Linked {
            target: self,
            unit,
            spec,
            worktrees: worktrees(&self.options.folder, &unit.key, (spec, wanted), git.clone()),
            git,
            home: Home::beside(&link),
            link,
        }))
    }
}

impl Linked<'_> {
    /// Where the link leads to now.
    pub(super) fn leads(&self) -> Result<Option<PathBuf>, AdapterError> {
        link::target(&self.link).map_err(|e| {
            AdapterError::permanent(e.to_string()).with_hint(
                "move it away and put a link in its place, such as `mv current first && ln -s first current`",
            )
        })
    }

    /// Says so if another service, environment or ledger manages the link.
    pub(super) fn other_owner(&self, note: &Note) -> Option<String> {
        let shown = self.link.display();
        let service = note.service.as_ref().unwrap_or(&self.unit.service);
        if note.key != self.unit.key || *service != self.unit.service {
            return Some(format!(
                "`{shown}` belongs to {service} of {}: give each service and environment a `current` of its own",
                note.key
            ));
        }
        let ours = &self.target.options.ledger;
        (note.ledger != *ours)
            .then(|| format!("ledger {} manages `{shown}`, not {ours}", note.ledger))
    }

    /// The release that the link leads to, and who has it so: `None` while it leads where our note says.
    pub(super) fn elsewhere(&self, note: &Note) -> Result<Option<String>, AdapterError> {
        let shown = self.link.display();
        let leads = self.leads()?;
        if leads == note.folder {
            return Ok(None);
        }
        let expected = note.folder.as_deref().unwrap_or(Path::new("nothing")).display();
        Ok(Some(match leads {
            Some(to) => format!("`{shown}` leads to `{}` in place of `{expected}`", to.display()),
            None => format!("`{shown}` is gone, it led to `{expected}`"),
        }))
    }

    /// The same where it leads to nothing of ours: a switch that was cut short does not count, nor one by hand.
    pub(super) fn moved_away(&self, note: &Note) -> Result<Option<String>, AdapterError> {
        let ours = self.leads()?.is_some_and(|to| to.starts_with(self.worktrees.releases()));
        Ok(self.elsewhere(note)?.filter(|_| !ours))
    }

    /// The folder behind the link, if it is one.
    pub(super) fn live(&self) -> Option<PathBuf> {
        link::target(&self.link).ok().flatten().filter(|to| to.is_dir())
    }
}
