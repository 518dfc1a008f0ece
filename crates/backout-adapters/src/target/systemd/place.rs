//! Where a side's things stand.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use backout_core::ids::Unit;
use backout_core::model::SystemdSpec;
use backout_core::ports::AdapterError;

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

    /// What a host keeps beside the link for its way back: a note, and variables.
    pub(super) fn back(&self) -> (PathBuf, PathBuf) {
        let beside = |after| beside(&self.link, ".", after);
        (beside(".backout.back.json"), beside(".backout.back.env"))
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

/// A link that can't be used or written.
pub(super) fn no_link(error: &std::io::Error) -> AdapterError {
    if error.kind() == std::io::ErrorKind::AlreadyExists {
        return AdapterError::permanent(error.to_string()).with_hint(
            "move the folder away and put a link in its place, such as `mv current first && ln -s first current`",
        );
    }
    writing(error)
}
