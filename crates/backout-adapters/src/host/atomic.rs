//! Files that are either the old ones or the new ones, whatever happens in between.

use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use fs_err as fs;

/// Replaces a file: temporary file beside it, synced, renamed, folder synced. Only its owner may read it
/// unless `mode` says otherwise.
///
/// # Errors
/// Names the file. The old content stays.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    Prepared::new(path, bytes, mode)?.put()?;
    sync_dir(parent_of(path)?)
}

/// A file that stands durable beside its place, for several that one sync of their folder is enough for.
#[derive(Debug)]
pub struct Prepared<'a> {
    path: &'a Path,
    temporary: tempfile::NamedTempFile,
}

impl<'a> Prepared<'a> {
    /// Writes and syncs it. Dropped, it is removed.
    ///
    /// # Errors
    /// Names the file. The old content stays.
    pub fn new(path: &'a Path, bytes: &[u8], mode: u32) -> io::Result<Self> {
        let folder = parent_of(path)?;
        let mut temporary = tempfile::Builder::new().prefix(".backout-").tempfile_in(folder)?;
        temporary.write_all(bytes)?;
        temporary.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        if !mutant("file_not_synced") {
            temporary.as_file().sync_all()?;
        }
        Ok(Self { path, temporary })
    }

    /// Puts it in its place; durable once the folder is synced ([`sync_dir`]).
    ///
    /// # Errors
    /// Names the file. The old content stays.
    pub fn put(self) -> io::Result<()> {
        self.temporary.persist(self.path).map(drop).map_err(|e| e.error)
    }
}

/// Writes a file in place, and syncs it: for one that is moved to its own place then.
///
/// # Errors
/// When it can't be written; what stands there then is part of it.
pub fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    if mutant("file_not_synced") { Ok(()) } else { file.sync_all() }
}

/// Whether `BACKOUT_MUTANT` names this mistake: the proofs must catch it. Release builds make none.
fn mutant(name: &str) -> bool {
    cfg!(debug_assertions) && std::env::var("BACKOUT_MUTANT").is_ok_and(|made| made == name)
}

/// Makes renames and removals in a folder durable.
///
/// # Errors
/// Names the folder.
pub fn sync_dir(folder: &Path) -> io::Result<()> {
    if mutant("folder_not_synced") {
        return Ok(());
    }
    fs::File::open(folder)?.sync_all()
}

/// Creates a folder and what is missing above it, for its owner only.
///
/// # Errors
/// Names the folder.
pub fn create_private_dirs(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| {
        io::Error::new(e.kind(), format!("failed to create folder `{}`: {e}", folder.display()))
    })
}

/// Reads a file of at most `limit` bytes; `None` if there is none.
///
/// # Errors
/// Names the file; a longer one is an error.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("`{}` is longer than {limit} bytes", path.display())));
    }
    Ok(Some(bytes))
}

/// Removes a file durably; a missing one is fine.
///
/// # Errors
/// Names the file.
pub fn remove_file_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(parent_of(path)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn parent_of(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::other(format!("`{}` has no folder", path.display())))
}
