//! The proxy's folder. A Unix socket's path has at most 107 bytes while the folder's may be longer, so the
//! socket is reached through the open folder.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Mode, OFlags, open, unlinkat};

use crate::wire::SOCKET_NAME;

/// An open folder.
pub(crate) struct Folder(OwnedFd);

impl Folder {
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self(open(path, flags, Mode::empty())?))
    }

    /// The admin socket's path; valid while the folder is open here.
    pub(crate) fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_NAME}", self.0.as_raw_fd()))
    }

    /// Removes a file of this very folder. Another one may stand at its path by now, with files of the same names.
    pub(crate) fn remove(&self, name: &str) -> std::io::Result<()> {
        Ok(unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Makes renames and removals in the folder durable.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_took_its_place_keeps_its_files() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("proxy");
        let make = || {
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join(SOCKET_NAME), "").unwrap();
        };
        make();
        let folder = Folder::open(&path).unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        make();
        assert!(folder.remove(SOCKET_NAME).is_err());
        assert!(path.join(SOCKET_NAME).exists());
        Folder::open(&path).unwrap().remove(SOCKET_NAME).unwrap();
        assert!(!path.join(SOCKET_NAME).exists());
    }
}
