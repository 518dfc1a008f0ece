//! Switches a link between worktrees: nobody ever sees half of a release, and the way back is a rename.

use std::path::{Path, PathBuf};

use backout_core::ids::Unit;
use backout_core::model::Release;
use backout_core::ports::{AdapterError, Receipt, StepCx};

use super::apply::Wanted;
use super::links::Linked;
use super::note::Note;
use super::step::{Step, short};
use super::{GitTarget, note};
use crate::git::Standing;
use crate::host::sync_dir;
use crate::target::link;

impl Linked<'_> {
    /// The worktree of the wanted commit; what was removed meanwhile is made anew.
    async fn prepared(&self, warnings: &mut Vec<String>) -> Result<PathBuf, AdapterError> {
        let commit = &self.spec.commit;
        if self.worktrees.standing(commit)? == Standing::Ready {
            return Ok(self.worktrees.path(commit));
        }
        let path = self.worktrees.ensure(commit).await?;
        warnings.push(format!(
            "the worktree `{}` was not there and was made from the commit that is kept",
            path.display()
        ));
        Ok(path)
    }

    fn note(&self, all: &Wanted<'_>, folder: &Path) -> Note {
        let ledger = &self.target.options.ledger;
        let note = Note::new(self.unit, ledger, all.release, &self.spec.commit, all.deployment);
        let service = Some(self.unit.service.clone());
        Note { folder: Some(folder.to_owned()), service, ..note }
    }

    fn failed(&self, doing: &str, error: &std::io::Error) -> AdapterError {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
        let shown = self.link.display();
        let failed = AdapterError::transient(format!("failed to {doing} `{shown}`: {error}"));
        match error.kind() {
            ReadOnlyFilesystem => failed.with_hint("mount that file system for writing"),
            PermissionDenied => {
                failed.with_hint("run as the user that owns the folder of the link")
            }
            StorageFull => failed.with_hint("free some space there"),
            _ => failed,
        }
    }

    /// In one step. What makes the note durable, in the same folder, makes this durable before it.
    fn switch(&self, to: &Path) -> Result<(), AdapterError> {
        let parent = self.link.parent().unwrap_or(Path::new("/"));
        // As it is written it can be moved together with its folder.
        link::put(&self.link, to.strip_prefix(parent).unwrap_or(to))
            .map_err(|e| self.failed("switch", &e))
    }
}

pub(super) async fn start(
    linked: &Linked<'_>,
    all: Wanted<'_>,
    cx: &StepCx,
) -> Result<Receipt, AdapterError> {
    let (target, unit, spec) = (linked.target, linked.unit, linked.spec);
    let refused = |why: String| AdapterError::permanent(format!("failed to start {unit}: {why}"));
    if all.revert.is_some() {
        return Err(refused("nothing there would take a link back by itself".to_owned()));
    }
    let parent = linked.link.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(|e| linked.failed("make the folder of", &e))?;
    let mut step = Step::begin(target, unit, spec, cx, linked.home.clone()).await?;
    let before = step.home.read(&step.git).await?;
    if let Some(other) = before.as_ref().and_then(|note| linked.other_owner(note)) {
        return Err(refused(other));
    }
    let leads = linked.leads()?;
    let folder = linked.prepared(&mut step.warnings).await?;
    let wanted = linked.note(&all, &folder);
    let same = |note: &Note| {
        note.finished && note.release == wanted.release && note.deployment == wanted.deployment
    };
    if before.as_ref().is_some_and(same) && leads.as_ref() == Some(&folder) {
        let message = format!("`{}` leads to {} already", spec_link(linked), short(&spec.commit));
        return Ok(Receipt { message, ..Receipt::default() });
    }
    let first = match &before {
        None => Some(leads.as_deref().map(note::path_text).unwrap_or_default()),
        Some(note) => note.before.clone().filter(|_| !note.finished),
    };
    let note = Note { before: first, ..wanted };
    if before.as_ref().is_none_or(|note| !note.finished) {
        // What there was before is known to nobody else. Later, link and note together tell how far it got.
        step.home.write(&step.git, &note, &step.turn).await?;
    }
    if let Some(note) = before.as_ref().filter(|note| note.finished) {
        step.warnings.extend(linked.moved_away(note)?);
    }
    linked.switch(&folder)?;
    if let Some(prepared) = step.follow(&all, &folder, &note.finished()).await? {
        let put = linked.home.put(&prepared);
        put.map_err(|e| linked.failed("write the note beside", &e))?;
    }
    Ok(Receipt {
        message: format!("`{}` leads to {}", spec_link(linked), short(&spec.commit)),
        warnings: step.warnings,
        ..Receipt::default()
    })
}

fn spec_link(linked: &Linked<'_>) -> String {
    linked.link.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Nothing runs that could be stopped. Where the link led before the first deployment it leads again.
pub(super) async fn stop(linked: &Linked<'_>, cx: &StepCx) -> Result<Receipt, AdapterError> {
    let (unit, home) = (linked.unit, &linked.home);
    let Some(note) = home.read(&linked.git).await? else {
        let message = format!("{unit} is not managed any more");
        return Ok(Receipt { message, ..Receipt::default() });
    };
    if let Some(other) = linked.other_owner(&note) {
        return Err(AdapterError::permanent(format!("failed to leave {unit}: {other}")));
    }
    let step = Step::begin(linked.target, unit, linked.spec, cx, home.clone()).await?;
    let name = spec_link(linked);
    // A folder in its place is somebody's, and nothing to hold this up.
    let ours = linked.leads().is_ok_and(|leads| leads == note.folder || !note.finished);
    let message = match note.before.as_deref().filter(|_| ours) {
        None => format!("`{name}` stays as it is"),
        Some("") => {
            link::remove_link(&linked.link).map_err(|e| linked.failed("remove", &e))?;
            format!("`{name}` is gone, as before the first deployment")
        }
        Some(before) => {
            linked.switch(Path::new(before))?;
            format!("`{name}` leads to `{before}` again, as before the first deployment")
        }
    };
    let parent = linked.link.parent().unwrap_or(Path::new("/"));
    sync_dir(parent).map_err(|e| linked.failed("sync the folder of", &e))?;
    step.home.remove(&step.git, Some(&step.turn)).await?;
    Ok(Receipt { message, warnings: step.warnings, ..Receipt::default() })
}

/// What runs behind the link of a unit, where it has one.
pub(super) fn of<'a>(
    target: &'a GitTarget,
    unit: &'a Unit,
    release: Option<&'a Release>,
) -> Result<Option<Linked<'a>>, AdapterError> {
    target.linked(unit, target.spec(unit, release)?)
}
