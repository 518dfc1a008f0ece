//! Reads, hashes and copies a file or a folder tree in one walk.
//!
//! The digest covers the name of the thing itself, and for each entry below it its path, kind, whether it
//! may be executed, and its content or link text. Owners and times are left out: they differ between machines.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use backout_core::ids::hex;
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use sha2::{Digest, Sha256};

/// Entries that one artifact may have.
const MAX_ENTRIES: usize = 200_000;
/// Folders inside folders.
const MAX_DEPTH: usize = 64;
/// All bytes of one artifact.
const MAX_BYTES: u64 = 64 << 30;

/// Why a tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Nothing is there.
    #[error("`{0}` does not exist")]
    Missing(String),
    /// A socket, device or pipe.
    #[error("`{0}` is neither file, folder nor link")]
    Special(String),
    /// Too large.
    #[error("`{0}` has more than {1}")]
    TooLarge(String, String),
    /// It can't be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Hashes what stands at `from`, and copies it to `to` meanwhile if that is given. The bytes that are hashed
/// are the bytes that are written. `name` is how the thing is called.
///
/// # Errors
/// [`TreeError`]; a copy that was begun stays half-done, so `to` must be a temporary place.
pub fn walk(from: &Path, name: &OsStr, to: Option<&Path>) -> Result<String, TreeError> {
    let mut walk = Walk { hash: Sha256::new(), entries: 0, bytes: 0 };
    walk.hash.update(b"backout-artifact 1\n");
    walk.field(b'n', name.as_bytes());
    walk.entry(from, Path::new(""), to, 0)?;
    Ok(format!("sha256:{}", hex(&walk.hash.finalize())))
}

struct Walk {
    hash: Sha256,
    entries: usize,
    bytes: u64,
}

impl Walk {
    /// Every field carries its length, so that no two trees read the same.
    fn field(&mut self, kind: u8, bytes: &[u8]) {
        self.hash.update([kind]);
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    fn entry(
        &mut self,
        from: &Path,
        inside: &Path,
        to: Option<&Path>,
        depth: usize,
    ) -> Result<(), TreeError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES || depth > MAX_DEPTH {
            let limit = format!("{MAX_ENTRIES} entries or {MAX_DEPTH} folders inside each other");
            return Err(TreeError::TooLarge(from.display().to_string(), limit));
        }
        let metadata = match fs::symlink_metadata(from) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(TreeError::Missing(from.display().to_string()));
            }
            Err(e) => return Err(e.into()),
        };
        self.field(b'p', inside.as_os_str().as_bytes());
        let kind = metadata.file_type();
        if kind.is_symlink() {
            self.link(from, to)
        } else if kind.is_dir() {
            self.folder(from, inside, to, depth)
        } else if kind.is_file() {
            self.file(from, metadata.permissions().mode() & 0o111 != 0, to)
        } else {
            Err(TreeError::Special(from.display().to_string()))
        }
    }

    fn link(&mut self, from: &Path, to: Option<&Path>) -> Result<(), TreeError> {
        let text = fs::read_link(from)?;
        self.field(b'l', text.as_os_str().as_bytes());
        if let Some(to) = to {
            fs::os::unix::fs::symlink(&text, to)?;
        }
        Ok(())
    }

    fn folder(
        &mut self,
        from: &Path,
        inside: &Path,
        to: Option<&Path>,
        depth: usize,
    ) -> Result<(), TreeError> {
        let mut names: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(from)? {
            names.push(PathBuf::from(entry?.file_name()));
            if names.len() > MAX_ENTRIES {
                return Err(TreeError::TooLarge(
                    from.display().to_string(),
                    format!("{MAX_ENTRIES} entries"),
                ));
            }
        }
        names.sort();
        self.field(b'd', &(names.len() as u64).to_le_bytes());
        if let Some(to) = to {
            fs::create_dir(to)?;
            fs::set_permissions(to, std::fs::Permissions::from_mode(0o700))?;
        }
        for name in names {
            let target = to.map(|to| to.join(&name));
            self.entry(&from.join(&name), &inside.join(&name), target.as_deref(), depth + 1)?;
        }
        if let Some(to) = to {
            super::super::host::sync_dir(to)?;
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, executable: bool, to: Option<&Path>) -> Result<(), TreeError> {
        let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let mut source = fs::OpenOptions::new().read(true).custom_flags(no_follow).open(from)?;
        // Read by its owner only, and written by nobody: a program must not change the copy it was started from.
        let mode = if executable { 0o500 } else { 0o400 };
        let mut copy = match to {
            Some(to) => {
                Some(fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?)
            }
            None => None,
        };
        let mut content = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = source.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            self.bytes += n as u64;
            if self.bytes > MAX_BYTES {
                return Err(TreeError::TooLarge(
                    from.display().to_string(),
                    format!("{MAX_BYTES} bytes"),
                ));
            }
            content.update(&buffer[..n]);
            if let Some(copy) = &mut copy {
                copy.write_all(&buffer[..n])?;
            }
        }
        if let Some(copy) = copy {
            copy.sync_all()?;
        }
        self.field(if executable { b'x' } else { b'f' }, &content.finalize());
        Ok(())
    }
}

/// Removes a file or tree, also read-only ones; a missing one is fine.
///
/// # Errors
/// Names what could not be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}
