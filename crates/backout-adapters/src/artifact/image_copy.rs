//! Whether the bytes of a kept image are still those that were written.
//!
//! Beside a copy `HEX.tar` stands `HEX.sum`: its digest, its size, and when it was last read whole. Readiness is
//! proven often and images are large: size and time of change are looked at each time, the bytes once a day, and
//! at once where anything of the file has changed.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use backout_core::ids::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::host::{read_bounded, remove_file_if_there, write_atomic};

const FORMAT: u32 = 1;
/// The bytes are read again after this time, seconds.
const READ_AGAIN_S: u64 = 86_400;

/// What is known of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    format: u32,
    sha256: String,
    bytes: u64,
    changed_ns: i64,
    read_at_s: u64,
}

fn sum_path(copy: &Path) -> PathBuf {
    copy.with_extension("sum")
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

fn changed_ns(meta: &std::fs::Metadata) -> i64 {
    meta.mtime().wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec())
}

fn read_whole(copy: &Path) -> io::Result<Sum> {
    let mut file = fs_err::File::open(copy)?;
    let meta = file.metadata()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(Sum {
        format: FORMAT,
        sha256: hex(&hash.finalize()),
        bytes: meta.len(),
        changed_ns: changed_ns(&meta),
        read_at_s: now_s(),
    })
}

fn write(copy: &Path, sum: &Sum) -> io::Result<()> {
    write_atomic(&sum_path(copy), &serde_json::to_vec(sum)?, 0o600)
}

/// Remembers a copy that was just written.
pub(super) fn remember(copy: &Path) -> io::Result<()> {
    write(copy, &read_whole(copy)?)
}

/// Forgets a copy.
pub(super) fn forget(copy: &Path) -> io::Result<()> {
    remove_file_if_there(copy)?;
    remove_file_if_there(&sum_path(copy)).map(drop)
}

/// Proves a copy as described above. One that an older version wrote is remembered as it is.
///
/// # Errors
/// What is wrong with it.
pub(super) fn verify(copy: &Path) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("its copy can't be read: {e}");
    let known = read_bounded(&sum_path(copy), 64 << 10).map_err(|e| failed(&e))?;
    let known: Option<Sum> = known.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let meta = fs_err::metadata(copy).map_err(|e| failed(&e))?;
    let Some(known) = known.filter(|sum| sum.format <= FORMAT) else {
        return remember(copy).map_err(|e| failed(&e));
    };
    if meta.len() != known.bytes {
        return Err(format!("its copy has {} bytes in place of {}", meta.len(), known.bytes));
    }
    let fresh = now_s().checked_sub(known.read_at_s).is_some_and(|age| age < READ_AGAIN_S);
    if fresh && changed_ns(&meta) == known.changed_ns {
        return Ok(());
    }
    let found = read_whole(copy).map_err(|e| failed(&e))?;
    if found.sha256 != known.sha256 {
        return Err("its copy was damaged".to_owned());
    }
    // On a full or read-only disk it is only read again the next time.
    let _ = write(copy, &found);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_seen_and_an_untouched_copy_is_read_once_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("abc.tar");
        std::fs::write(&copy, b"layers").unwrap();
        remember(&copy).unwrap();
        verify(&copy).unwrap();
        std::fs::write(&copy, b"lAyers").unwrap();
        assert_eq!(verify(&copy), Err("its copy was damaged".to_owned()));
        std::fs::write(&copy, b"layer").unwrap();
        assert!(verify(&copy).unwrap_err().contains("5 bytes in place of 6"));
        // Bits that flip by themselves change no time: they are seen with the next reading of all bytes.
        std::fs::write(&copy, b"layerS").unwrap();
        let sum: Sum = serde_json::from_slice(&std::fs::read(sum_path(&copy)).unwrap()).unwrap();
        let changed_ns = changed_ns(&std::fs::metadata(&copy).unwrap());
        write(&copy, &Sum { changed_ns, ..sum.clone() }).unwrap();
        verify(&copy).unwrap();
        let read_at_s = now_s() - READ_AGAIN_S - 1;
        write(&copy, &Sum { changed_ns, read_at_s, ..sum }).unwrap();
        assert_eq!(verify(&copy), Err("its copy was damaged".to_owned()));
        forget(&copy).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_copy_of_an_older_version_is_remembered_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("abc.tar");
        std::fs::write(&copy, b"layers").unwrap();
        verify(&copy).unwrap();
        std::fs::write(&copy, b"lAyers").unwrap();
        assert!(verify(&copy).is_err());
    }
}
