//! Puts one file or link in its place, whole or not at all.

use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use backout_core::model::ConfigFile;
use backout_core::ports::DiskFile;

use super::label;

pub(crate) fn put_file(folder: &Path, place: &Path, file: &DiskFile) -> io::Result<()> {
    // For nobody else until owner and mode are right: it may hold secrets.
    let mut temporary = tempfile::Builder::new()
        .prefix(".backout-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    temporary.write_all(&file.bytes)?;
    let handle = temporary.as_file();
    let metadata = handle.metadata()?;
    if (metadata.uid(), metadata.gid()) != (file.meta.uid, file.meta.gid) {
        std::os::unix::fs::fchown(handle, Some(file.meta.uid), Some(file.meta.gid))?;
    }
    handle.set_permissions(std::fs::Permissions::from_mode(file.meta.mode & 0o7777))?;
    if let Some(wanted) = &file.meta.selinux {
        label::write(temporary.path(), wanted)?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(place).map_err(|e| e.error)?;
    Ok(())
}

pub(crate) fn put_link(
    folder: &Path,
    place: &Path,
    target: &str,
    meta: &ConfigFile,
) -> io::Result<()> {
    let temporary = tempfile::Builder::new()
        .prefix(".backout-")
        .make_in(folder, |path| std::os::unix::fs::symlink(target, path))?;
    let metadata = std::fs::symlink_metadata(temporary.path())?;
    if (metadata.uid(), metadata.gid()) != (meta.uid, meta.gid) {
        std::os::unix::fs::lchown(temporary.path(), Some(meta.uid), Some(meta.gid))?;
    }
    if let Some(wanted) = &meta.selinux {
        label::write(temporary.path(), wanted)?;
    }
    temporary.persist(place).map_err(|e| e.error)?;
    Ok(())
}
