//! The proxy's folder. A Unix socket's path has at most 107 bytes while the folder's may be longer, so the
//! socket is reached through the open folder.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, open};

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

    /// Makes renames and removals in the folder durable.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }
}
