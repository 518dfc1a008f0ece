//! Advisory locks on files: held by an open file, gone with the process that holds it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// An exclusive lock, released when dropped or when the process ends. Programs started meanwhile do not inherit it.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    /// Names the file if it can't be opened.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let file = open(path)?;
        Ok(try_flock(&file, FlockOperation::NonBlockingLockExclusive)?.then_some(Self { file }))
    }

    /// Takes the lock within `patience`; `None` if somebody held it all the time.
    ///
    /// # Errors
    /// Names the file if it can't be opened.
    pub async fn take(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let file = open(path)?;
        let end = Instant::now() + patience;
        while !try_flock(&file, FlockOperation::NonBlockingLockExclusive)? {
            if Instant::now() >= end {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Some(Self { file }))
    }

    /// Whether this is the lock of the file that stands at `path` now.
    #[must_use]
    pub fn is_of(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let of = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let there = std::fs::metadata(path).map(of).ok();
        there.is_some() && self.file.metadata().map(of).ok() == there
    }

    /// Whether somebody holds the lock. Does not create the file.
    ///
    /// # Errors
    /// Names the file if it can't be opened.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        match File::open(path) {
            // A shared lock for a moment: whoever wants the exclusive one tries for longer than that.
            Ok(file) => Ok(!try_flock(&file, FlockOperation::NonBlockingLockShared)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(named(path, &e)),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| named(path, &e))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("failed to open lock file `{}`: {error}", path.display()))
}

fn try_flock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
