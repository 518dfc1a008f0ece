//! Space on the device of the state folder, and the reserved file that lets one rollback journal on a full disk.

use std::io;
use std::path::Path;

use backout_core::ports::LedgerError;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::{FallocateFlags, Mode, OFlags};

/// Name of the reserved file in the state folder.
pub const RESERVE_FILE: &str = "reserve";

/// Size of the reserved file.
pub const RESERVE_BYTES: u64 = 1024 * 1024;

/// The reserve comes back only when so much would be left beside it: else it would eat what it was freed for.
const COMFORTABLE_BYTES: u64 = 16 * 1024 * 1024;

/// Removes the reserved file, so that one rollback can journal on a full disk. It comes back by itself when
/// there is space. True if there was one.
///
/// # Errors
/// When the file is there and can't be removed.
pub fn free_reserve(folder: &Path) -> Result<bool, LedgerError> {
    match fs_err::remove_file(folder.join(RESERVE_FILE)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LedgerError::Unavailable(error.to_string())),
    }
}

/// So little is left that a way back might not fit: the reserve is what it takes.
pub(super) fn is_scarce(folder: &Path) -> bool {
    available_bytes(folder) < RESERVE_BYTES
}

/// Makes the reserved file if it is missing and there is space. True if it is there afterwards.
pub(super) fn ensure_reserve(folder: &Path) -> bool {
    let path = folder.join(RESERVE_FILE);
    if fs_err::metadata(&path).is_ok_and(|meta| meta.len() >= RESERVE_BYTES) {
        return true;
    }
    if available_bytes(folder) < COMFORTABLE_BYTES + RESERVE_BYTES {
        return false;
    }
    if let Err(error) = allocate(&path) {
        tracing::warn!(%error, "failed to reserve space for a rollback on a full disk");
        // Half a reserve would look like one.
        let _ = fs_err::remove_file(&path);
        return false;
    }
    true
}

fn allocate(path: &Path) -> io::Result<()> {
    let file = fs_err::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
        Ok(()) => {}
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(&file)?,
        Err(errno) => return Err(errno.into()),
    }
    file.sync_all()
}

fn write_zeros(file: &fs_err::File) -> io::Result<()> {
    use io::Write as _;
    let mut file = file;
    let zeros = [0_u8; 16 * 1024];
    for _ in 0..RESERVE_BYTES / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    Ok(())
}

/// Space that this user may still use; none if that can't be asked.
fn available_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Tries to write into a file without a name. Quotas don't show in the figures of the device, so it is tried.
pub(super) fn can_write(folder: &Path) -> bool {
    const PROBE_BYTES: usize = 64 * 1024;
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) else {
        // Not every file system has files without names: then the figures must do.
        return available_bytes(folder) >= PROBE_BYTES as u64;
    };
    let bytes = [0_u8; 4096];
    let mut written = 0;
    while written < PROBE_BYTES {
        match rustix::io::write(&file, &bytes) {
            Ok(count) if count > 0 => written += count,
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return false,
        }
    }
    true
}
