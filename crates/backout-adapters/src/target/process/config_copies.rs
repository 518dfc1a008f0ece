//! `{config}`: this release's own copies of its config files.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use backout_core::ids::Unit;
use backout_core::model::{ConfigFile, FileKind, Release};
use backout_core::ports::{AdapterError, Secrets};
use fs_err as fs;

use super::ConfigBlobs;
use super::slot::SlotFolder;
use crate::host::{create_private_dirs, write_atomic};

/// Writes the copies and returns their folder. Only called if the release asks for it: secret values are in them.
pub(crate) async fn place(
    blobs: &dyn ConfigBlobs,
    slot: &SlotFolder,
    unit: &Unit,
    release: &Release,
    secrets: &Secrets,
) -> Result<PathBuf, AdapterError> {
    let folder = slot.config();
    let failed = |e: std::io::Error| {
        AdapterError::transient(format!("failed to write config copies of {unit}: {e}"))
    };
    crate::artifact::remove_tree(&folder).map_err(failed)?;
    create_private_dirs(&folder).map_err(failed)?;
    for file in &release.content.config {
        let place = folder.join(inside(unit, file)?);
        if let Some(parent) = place.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(failed)?;
        }
        match &file.kind {
            FileKind::File { .. } => {
                let bytes = blobs.unmasked(file, secrets).await?;
                write_atomic(&place, &bytes, 0o600 | (file.mode & 0o100)).map_err(failed)?;
            }
            FileKind::Link { target } => {
                fs::os::unix::fs::symlink(target, &place).map_err(failed)?
            }
        }
    }
    Ok(folder)
}

/// Removes copies of an earlier release.
pub(crate) fn clear(slot: &SlotFolder) -> std::io::Result<()> {
    crate::artifact::remove_tree(&slot.config())
}

fn inside<'a>(unit: &Unit, file: &'a ConfigFile) -> Result<&'a Path, AdapterError> {
    let path = Path::new(&file.path);
    if !file.path.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(path);
    }
    Err(AdapterError::permanent(format!(
        "failed to start {unit}: config file `{}` leads out of its folder",
        file.path
    )))
}
