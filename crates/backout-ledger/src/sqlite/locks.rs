//! Who has the ledger's file locked, for the message to people.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// At most so many are named.
const SHOWN: usize = 3;

/// Processes with a write lock on a file or its shared memory: `pid 12 (backout, stopped)`.
pub(super) fn holders(file: &Path) -> Vec<String> {
    let mut shared_memory = file.as_os_str().to_owned();
    shared_memory.push("-shm");
    let inodes: Vec<u64> = [file, Path::new(&shared_memory)]
        .iter()
        .filter_map(|path| fs_err::metadata(path).ok().map(|meta| meta.ino()))
        .collect();
    let Ok(locks) = fs_err::read_to_string("/proc/locks") else { return Vec::new() };
    let mut pids: Vec<u32> =
        locks.lines().filter_map(|line| write_lock_of(line, &inodes)).collect();
    pids.retain(|pid| *pid != std::process::id());
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().take(SHOWN).map(describe).collect()
}

/// `1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF`
fn write_lock_of(line: &str, inodes: &[u64]) -> Option<u32> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, _, _, "WRITE", pid, device_and_inode, ..] = fields.as_slice() else { return None };
    let inode: u64 = device_and_inode.rsplit(':').next()?.parse().ok()?;
    if inodes.contains(&inode) { pid.parse().ok() } else { None }
}

fn describe(pid: u32) -> String {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let name = stat
        .find('(')
        .zip(stat.rfind(')'))
        .and_then(|(from, to)| stat.get(from + 1..to))
        .unwrap_or("?");
    let stopped = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 't']));
    format!("pid {pid} ({name}{})", if stopped { ", stopped" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_write_locks_of_an_inode() {
        let line = "2: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 120 120";
        assert_eq!(write_lock_of(line, &[9, 2_531_452]), Some(3568));
        assert_eq!(write_lock_of(line, &[9]), None);
        assert_eq!(
            write_lock_of("2: POSIX  ADVISORY  READ 3568 fd:00:2531452 120 120", &[2_531_452]),
            None
        );
        assert_eq!(write_lock_of("2: -> POSIX", &[1]), None);
    }
}
