//! What happens before and after serving: the folder, its lock, the socket, limits.

use std::{
    fs::{File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process,
    time::Instant,
};

use jiff::Timestamp;
use rustix::{
    fs::{FlockOperation, Mode, flock},
    process::{Resource, Rlimit, getrlimit, setrlimit, umask},
    rand::{GetRandomFlags, getrandom},
};
use tokio::net::UnixListener;

use super::{ProxyError, limits};
use crate::{
    folder::Folder,
    wire::{Hello, SOCKET_NAME},
};

const LOCK: &str = "proxy.lock";
const PID: &str = "pid";

/// The claimed folder; the lock is held while this lives.
pub(crate) struct Home {
    dir: PathBuf,
    folder: Folder,
    _lock: File,
}

impl Home {
    /// Makes the folder ours, or says who has it.
    pub(crate) fn claim(dir: &Path) -> Result<Self, ProxyError> {
        umask(Mode::from_raw_mode(0o077));
        let shown = dir.display();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(ProxyError::io(format!("create the folder {shown}")))?;
        let folder =
            Folder::open(dir).map_err(ProxyError::io(format!("open the folder {shown}")))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .mode(0o600)
            .open(dir.join(LOCK))
            .map_err(ProxyError::io(format!("open the lock in {shown}")))?;
        let end = Instant::now() + limits::SUCCESSION_TIME;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                // One that stops takes no commands any more, but still serves what is in flight.
                Err(rustix::io::Errno::AGAIN)
                    if Instant::now() < end && UnixStream::connect(folder.socket()).is_err() =>
                {
                    std::thread::sleep(limits::SWEEP / 5);
                }
                Err(rustix::io::Errno::AGAIN) => {
                    let pid = read_pid(dir);
                    return Err(ProxyError::AlreadyRunning { dir: dir.to_owned(), pid });
                }
                Err(errno) => {
                    return Err(ProxyError::io(format!("lock the folder {shown}"))(errno.into()));
                }
            }
        }
        write_pid(dir).map_err(ProxyError::io(format!("write the process id in {shown}")))?;
        Ok(Self { dir: dir.to_owned(), folder, _lock: lock })
    }

    /// Binds the admin socket; one that is left from a killed process is replaced.
    pub(crate) fn listen(&self) -> Result<UnixListener, ProxyError> {
        let action = || format!("listen on {}", self.dir.join(SOCKET_NAME).display());
        match fs_err::remove_file(self.dir.join(SOCKET_NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ProxyError::io(action())(error));
            }
            _ => {}
        }
        let listener =
            UnixListener::bind(self.folder.socket()).map_err(ProxyError::io(action()))?;
        fs_err::set_permissions(self.dir.join(SOCKET_NAME), Permissions::from_mode(0o600))
            .map_err(ProxyError::io(action()))?;
        Ok(listener)
    }

    /// Removes what would suggest that the proxy still runs.
    pub(crate) fn leave(self) {
        for name in [SOCKET_NAME, PID] {
            let _ = self.folder.remove(name);
        }
    }
}

fn read_pid(dir: &Path) -> u32 {
    let mut text = String::new();
    let read = File::open(dir.join(PID)).and_then(|file| file.take(32).read_to_string(&mut text));
    read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0)
}

fn write_pid(dir: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".pid-").tempfile_in(dir)?;
    writeln!(file, "{}", process::id())?;
    file.persist(dir.join(PID)).map_err(|error| error.error)?;
    Ok(())
}

/// Raises the number of descriptors to what is allowed; returns what it is then.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    now.unwrap_or(u64::MAX)
}

/// Who this start is.
pub(crate) fn hello() -> io::Result<Hello> {
    let mut bytes = [0_u8; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: process::id(),
        instance: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        started_at: Timestamp::now(),
    })
}
