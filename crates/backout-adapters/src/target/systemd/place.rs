//! Where a side's things stand.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backout_core::ids::Unit;
use backout_core::model::SystemdSpec;
use backout_core::ports::AdapterError;

use crate::host::FileLock;

/// Names and paths of one side.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The unit's name.
    pub name: String,
    /// The link that the unit names.
    pub link: PathBuf,
    /// Variables for the unit, beside the link.
    pub variables: PathBuf,
    /// The note of what runs, beside the link.
    pub note: PathBuf,
    /// The folder of this environment's releases.
    pub releases: PathBuf,
}

/// A path of the definition, below the folder of `backout.yaml` unless it is absolute.
pub(super) fn below(folder: &Path, written: &str) -> PathBuf {
    let joined = folder.join(written);
    // Dots would hide that a unit names the same place.
    std::path::absolute(&joined).unwrap_or(joined).components().collect()
}

impl Place {
    pub(super) fn of(folder: &Path, spec: &SystemdSpec, unit: &Unit) -> Self {
        let fill = |text: &str| text.replace("{slot}", unit.slot.as_str());
        let link = below(folder, &fill(&spec.current));
        Self {
            name: fill(&spec.unit),
            variables: beside(&link, "", ".env"),
            note: beside(&link, ".", ".backout.json"),
            releases: releases(folder, spec, unit),
            link,
        }
    }

    /// The folder in which the link stands.
    pub(super) fn parent(&self) -> &Path {
        self.link.parent().unwrap_or(Path::new("/"))
    }

    /// Held by whoever changes this side.
    pub(super) fn lock(&self) -> PathBuf {
        beside(&self.link, ".", ".backout.lock")
    }

    /// Makes what must be there before anything is written. Everybody may read it: the unit's program may be anybody's.
    pub(super) fn make(&self) -> std::io::Result<()> {
        for folder in [self.parent(), self.releases.as_path()] {
            std::fs::create_dir_all(folder).map_err(|e| {
                std::io::Error::new(
                    e.kind(),
                    format!("failed to create folder `{}`: {e}", folder.display()),
                )
            })?;
        }
        Ok(())
    }

    /// Excludes other changes of this side, of this process and of others.
    pub(super) async fn enter(&self, patience: Duration) -> Result<FileLock, AdapterError> {
        let lock = FileLock::take(&self.lock(), patience).await.map_err(|e| writing(&e))?;
        lock.ok_or_else(|| {
            AdapterError::transient(format!(
                "failed to change {}: another process is at it",
                self.name
            ))
        })
    }
}

/// The folder of an environment's releases: names of what is made carry app and environment.
pub(super) fn releases(folder: &Path, spec: &SystemdSpec, unit: &Unit) -> PathBuf {
    let key = &unit.key;
    below(folder, &spec.releases).join(format!("{}.{}", key.app, key.environment))
}

fn beside(link: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = OsString::from(before);
    name.push(link.file_name().unwrap_or_default());
    name.push(after);
    link.with_file_name(name)
}

/// Something could not be written: nothing that runs has changed.
pub(super) fn writing(error: &std::io::Error) -> AdapterError {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
    let words = error.to_string();
    let adapter = match words.starts_with("failed to") {
        true => AdapterError::transient(words),
        false => AdapterError::transient(format!("failed to write beside the link: {words}")),
    };
    match error.kind() {
        ReadOnlyFilesystem => adapter.with_hint("mount that file system for writing"),
        PermissionDenied => adapter.with_hint("run as the user that owns the folder of the link"),
        StorageFull => adapter.with_hint("free some space there"),
        _ => adapter,
    }
}
