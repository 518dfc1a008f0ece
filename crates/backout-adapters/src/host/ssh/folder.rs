//! The folder of a connection's control socket: for this user only, locked for as long as its process lives, so that
//! what a killed process has left is told from what another one uses.

use std::fs::{self, Metadata};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, SystemTime};

use backout_core::ports::AdapterError;

use crate::host::FileLock;

/// Socket paths may have 108 bytes, and ssh adds a random part while it makes one.
const MAX_BASE: usize = 60;
const PREFIX: &str = "backout-ssh-";
const LOCK: &str = "lock";
/// Names are drawn, and others may take a folder that is not locked yet for a left-over.
const TRIES: u32 = 8;
/// A folder without a lock is one that is just being made, or one of an older version.
const UNLOCKED_AGE: Duration = Duration::from_secs(3_600);
/// Left-overs that one process looks at.
const LOOKED_AT_MAX: usize = 10_000;

/// A folder that goes with this value.
#[derive(Debug)]
pub(super) struct ControlFolder {
    path: PathBuf,
    _lock: FileLock,
}

impl ControlFolder {
    /// A new one. The first of a process removes what others have left.
    pub(super) fn make() -> Result<Self, AdapterError> {
        static CLEARED: Once = Once::new();
        let candidates = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).into_iter();
        let candidates = candidates.chain([std::env::temp_dir(), PathBuf::from("/tmp")]);
        let bases: Vec<PathBuf> =
            candidates.filter(|path| path.as_os_str().len() <= MAX_BASE).collect();
        CLEARED.call_once(|| bases.iter().for_each(|base| remove_leftovers(base)));
        let mut why = "their paths are too long".to_owned();
        for base in bases {
            match Self::make_in(&base) {
                Ok(made) => return Ok(made),
                Err(error) => why = format!("{}: {error}", base.display()),
            }
        }
        let message = format!("failed to make a folder for the control socket: {why}");
        Err(AdapterError::transient(message).with_hint("set TMPDIR to a short path"))
    }

    fn make_in(base: &Path) -> std::io::Result<Self> {
        for _ in 0..TRIES {
            let mut bytes = [0_u8; 4];
            rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
            let path = base.join(format!("{PREFIX}{}", backout_core::ids::hex(&bytes)));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Taken for a left-over meanwhile, it is locked or gone: another one is made.
            if let Ok(Some(lock)) = FileLock::try_take(&path.join(LOCK))
                && lock.is_of(&path.join(LOCK))
            {
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(std::io::Error::other("other processes remove it again and again"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it; nobody may use it any more.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Drop for ControlFolder {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes the folders of this user whose process is gone.
fn remove_leftovers(base: &Path) {
    let me = rustix::process::geteuid().as_raw();
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for entry in ours.take(LOOKED_AT_MAX) {
        // Of the entry itself: a link is none of ours.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() && meta.uid() == me {
            remove_leftover(&entry.path(), &meta);
        }
    }
}

fn remove_leftover(path: &Path, meta: &Metadata) {
    let lock = path.join(LOCK);
    if !lock.exists() {
        let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        let answers = std::os::unix::net::UnixStream::connect(path.join("m")).is_ok();
        if age.is_some_and(|age| age > UNLOCKED_AGE) && !answers {
            let _ = fs::remove_dir_all(path);
        }
        return;
    }
    // The lock is held until all is gone, so that nobody else begins with it.
    if let Ok(Some(_lock)) = FileLock::try_take(&lock) {
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(base: &Path) -> Vec<String> {
        let mut all: Vec<String> = fs::read_dir(base)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    }

    #[test]
    fn what_nobody_holds_any_more_is_removed_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path();
        let used = ControlFolder::make_in(base).unwrap();
        let left = ControlFolder::make_in(base).unwrap();
        let kept = left.path().to_owned();
        // As after a kill: the lock ends with the process, the folder stays.
        fs::create_dir(base.join("copy")).unwrap();
        fs::rename(&kept, base.join("copy/it")).unwrap();
        drop(left);
        fs::rename(base.join("copy/it"), &kept).unwrap();
        fs::remove_dir(base.join("copy")).unwrap();
        fs::write(kept.join("m"), "").unwrap();
        let fresh = base.join(format!("{PREFIX}fresh"));
        fs::create_dir(&fresh).unwrap();
        let old = base.join(format!("{PREFIX}old"));
        fs::create_dir(&old).unwrap();
        let long_ago = SystemTime::now() - UNLOCKED_AGE * 2;
        fs::File::open(&old).unwrap().set_modified(long_ago).unwrap();
        let listening = base.join(format!("{PREFIX}listening"));
        fs::create_dir(&listening).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(listening.join("m")).unwrap();
        fs::File::open(&listening).unwrap().set_modified(long_ago).unwrap();
        let elsewhere = base.join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, base.join(format!("{PREFIX}link"))).unwrap();

        remove_leftovers(base);
        let name = used.path().file_name().unwrap().to_str().unwrap().to_owned();
        let mut expected = vec![
            name,
            format!("{PREFIX}fresh"),
            format!("{PREFIX}link"),
            format!("{PREFIX}listening"),
            "elsewhere".to_owned(),
        ];
        expected.sort();
        assert_eq!(names(base), expected);
        drop(used);
        assert_eq!(names(base).len(), 4, "{:?}", names(base));
    }

    #[test]
    fn many_that_begin_and_clear_at_once_never_take_each_others_away() {
        let base = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let made = ControlFolder::make_in(base.path()).unwrap();
                        remove_leftovers(base.path());
                        assert!(made.path().join(LOCK).exists());
                    }
                });
            }
        });
        assert_eq!(names(base.path()), [""; 0]);
    }
}
