//! `{artifact}`: the copy that a release is started from, never the user's own file.

use std::path::{Component, Path, PathBuf};

use backout_core::ids::Unit;
use backout_core::model::{Artifact, Release};
use backout_core::ports::AdapterError;
use fs_err as fs;

use super::slot::SlotFolder;
use crate::artifact::FileArtifacts;

/// Where `{artifact}` points to; `None` if the service has no kept artifact.
///
/// One file is run from where it is kept. A folder, or several, are copied into the slot: programs write
/// beside their own files, and what is kept must stay as it is. Several keep their paths below the slot's
/// folder, and can also be found there by their last name where only one has it.
pub(crate) fn place(
    store: &FileArtifacts,
    slot: &SlotFolder,
    unit: &Unit,
    release: &Release,
) -> Result<Option<PathBuf>, AdapterError> {
    let of_service = |a: &&Artifact| a.service == unit.service && a.kept;
    let kept: Vec<&Artifact> = release.content.artifacts.iter().filter(of_service).collect();
    crate::artifact::remove_tree(&slot.artifacts()).map_err(|e| failed(unit, &e))?;
    match kept.as_slice() {
        [] => Ok(None),
        [one] => {
            let path = store.path_of(&one.digest)?;
            if !path.is_dir() || path.is_symlink() {
                return Ok(Some(path));
            }
            let copy = slot.artifacts().join(path.file_name().unwrap_or_default());
            copy_out(store, unit, one, &copy)?;
            Ok(Some(copy))
        }
        several => {
            for artifact in several {
                copy_out(
                    store,
                    unit,
                    artifact,
                    &slot.artifacts().join(inside(unit, &artifact.path)?),
                )?;
            }
            add_short_names(&slot.artifacts(), several, unit)?;
            Ok(Some(slot.artifacts()))
        }
    }
}

fn copy_out(
    store: &FileArtifacts,
    unit: &Unit,
    artifact: &Artifact,
    to: &Path,
) -> Result<(), AdapterError> {
    if let Some(parent) = to.parent() {
        crate::host::create_private_dirs(parent).map_err(|e| failed(unit, &e))?;
    }
    // One artifact may lie inside another that was copied before.
    crate::artifact::remove_tree(to).map_err(|e| failed(unit, &e))?;
    store.copy_to(&artifact.digest, to)
}

fn inside(unit: &Unit, path: &str) -> Result<PathBuf, AdapterError> {
    let parts: Option<PathBuf> = Path::new(path)
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
        .collect();
    parts.filter(|p| !p.as_os_str().is_empty()).ok_or_else(|| {
        AdapterError::permanent(format!(
            "failed to start {unit}: artifact `{path}` lies outside of the folder of backout.yaml"
        ))
    })
}

fn add_short_names(folder: &Path, several: &[&Artifact], unit: &Unit) -> Result<(), AdapterError> {
    for artifact in several {
        let path = inside(unit, &artifact.path)?;
        let Some(name) = path.file_name() else { continue };
        let alone =
            several.iter().filter(|a| Path::new(&a.path).file_name() == Some(name)).count() == 1;
        let short = folder.join(name);
        if alone && fs::symlink_metadata(&short).is_err() {
            fs::os::unix::fs::symlink(&path, &short).map_err(|e| failed(unit, &e))?;
        }
    }
    Ok(())
}

fn failed(unit: &Unit, error: &dyn std::fmt::Display) -> AdapterError {
    AdapterError::transient(format!("failed to lay out the artifact of {unit}: {error}"))
}
