//! The state folder: ours alone, and locked while a ledger is made in it.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use backout_core::ports::LedgerError;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::error::OpenError;

const LOCK_TRIES: u32 = 200;
const LOCK_WAIT: Duration = Duration::from_millis(25);

/// Makes the folder if it is missing, 0700 whatever the umask, and refuses one that others could change.
pub(super) fn prepare(folder: &Path) -> Result<(), OpenError> {
    match check(folder) {
        Err(OpenError::NotFound(_)) => {
            create(folder).map_err(|error| unavailable(&error))?;
            match check(folder) {
                Err(OpenError::NotFound(_)) => Err(OpenError::NotOurs {
                    folder: folder.to_owned(),
                    reason: "it is a link to nothing; name another one with --state-dir".to_owned(),
                }),
                result => result,
            }
        }
        result => result,
    }
}

fn create(folder: &Path) -> io::Result<()> {
    if let Some(parent) =
        folder.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists())
    {
        create(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        // A umask may have taken bits that we need ourselves.
        Ok(()) => fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o700)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("failed to create {}: {error}", folder.display()),
        )),
    }
}

/// Refuses a folder that another user owns or may change.
pub(super) fn check(folder: &Path) -> Result<(), OpenError> {
    let meta = match fs_err::metadata(folder) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::NotFound(folder.to_owned()));
        }
        Err(error) => return Err(unavailable(&error)),
    };
    let refuse = |reason: String| Err(OpenError::NotOurs { folder: folder.to_owned(), reason });
    let us = rustix::process::geteuid().as_raw();
    if !meta.is_dir() {
        return refuse("it is not a folder; name another one with --state-dir".to_owned());
    }
    if meta.uid() != us {
        let owner = meta.uid();
        return refuse(format!(
            "user {owner} owns it and we are user {us}; run as its owner, or name another one with --state-dir"
        ));
    }
    if meta.mode() & 0o022 != 0 {
        let mode = meta.mode() & 0o777;
        return refuse(format!(
            "its mode {mode:o} lets others write into it; run `chmod 700 {}`",
            folder.display()
        ));
    }
    Ok(())
}

/// Whether reading from here is all that we may do: somebody else owns the folder.
pub(super) fn is_foreign(folder: &Path) -> bool {
    fs_err::metadata(folder).is_ok_and(|meta| meta.uid() != rustix::process::geteuid().as_raw())
}

/// An exclusive lock on the folder, gone with the process.
pub(super) struct FolderLock {
    handle: rustix::fd::OwnedFd,
}

impl FolderLock {
    /// Waits a bounded time for whoever has it.
    pub(super) async fn take(folder: &Path) -> Result<Self, OpenError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(folder, flags, Mode::empty())
            .map_err(|errno| unavailable(&errno.into()))?;
        for _ in 0..LOCK_TRIES {
            match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { handle }),
                Err(Errno::WOULDBLOCK | Errno::INTR) => tokio::time::sleep(LOCK_WAIT).await,
                Err(errno) => return Err(unavailable(&errno.into())),
            }
        }
        let message = format!(
            "{} stays locked by another process that creates a ledger in it",
            folder.display()
        );
        Err(OpenError::Ledger(LedgerError::Unavailable(message)))
    }

    /// Makes names that were created or renamed in the folder durable.
    pub(super) fn sync(&self) -> Result<(), OpenError> {
        rustix::fs::fsync(&self.handle).map_err(|errno| unavailable(&errno.into()))
    }
}

pub(super) fn unavailable(error: &io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            OpenError::Ledger(LedgerError::DiskFull(error.to_string()))
        }
        _ => OpenError::Ledger(LedgerError::Unavailable(error.to_string())),
    }
}
