//! What `/proc` tells about processes. A process is named by its id, its start time and the boot: ids alone come again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process that can't be mistaken for a later one with the same id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its id.
    pub pid: u32,
    /// Its start, in clock ticks since the boot.
    pub start_ticks: u64,
    /// The boot.
    pub boot: String,
}

/// One line of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its id.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Short name of the program.
    pub name: String,
    /// Ended, but not yet waited for.
    pub ended: bool,
    /// Its start, in clock ticks since the boot.
    pub start_ticks: u64,
}

impl Stat {
    /// Its lasting name.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: self.pid, start_ticks: self.start_ticks, boot: boot().to_owned() }
    }
}

impl ProcessId {
    /// The process that has this id now, unless it has ended.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        stat(pid).filter(|s| !s.ended).map(|s| s.id())
    }

    /// This process.
    #[must_use]
    pub fn current() -> Self {
        static CURRENT: OnceLock<ProcessId> = OnceLock::new();
        let pid = std::process::id();
        let look =
            || Self::of(pid).unwrap_or(Self { pid, start_ticks: 0, boot: boot().to_owned() });
        let known = CURRENT.get_or_init(look);
        // A fork of a process that was asked is another one.
        if known.pid == pid { known.clone() } else { look() }
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now == *self)
    }

    /// Sends a signal, never to another process that got the same id. False if it runs no more.
    #[must_use]
    pub fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        // The descriptor pins the process: the identity is checked after it was opened.
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => self.is_alive() && pidfd_send_signal(descriptor, signal).is_ok(),
            Err(_) => false,
        }
    }
}

/// The id of this boot.
fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|s| s.trim().to_owned())
            .unwrap_or_default()
    })
}

/// One process, also if it has ended but was not waited for.
#[must_use]
pub fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/stat")).ok()?))
}

fn parse_stat(line: &str) -> Option<Stat> {
    // The name stands in parentheses and may hold any character, also parentheses.
    let (open, close) = (line.find('(')?, line.rfind(')')?);
    let fields: Vec<&str> = line.get(close + 1..)?.split_ascii_whitespace().collect();
    Some(Stat {
        pid: line[..open].trim().parse().ok()?,
        name: line.get(open + 1..close)?.to_owned(),
        ended: matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// All processes that have not ended.
#[must_use]
pub fn all() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(stat)
        .filter(|s| !s.ended)
        .collect()
}

/// Set on processes of ours that are meant to outlive whoever started them: supervisors and the proxy. They and
/// what is below them belong to no family, also where a program under supervision has started them.
pub const DETACHED_VARIABLE: &str = "BACKOUT_DETACHED";

/// Everything below these processes, without themselves and without what is detached.
#[must_use]
pub fn descendants(roots: &[u32]) -> Vec<Stat> {
    let mut below: BTreeMap<u32, Vec<Stat>> = BTreeMap::new();
    for process in all() {
        below.entry(process.parent).or_default().push(process);
    }
    let mut seen: BTreeSet<u32> = roots.iter().copied().collect();
    let mut open: Vec<u32> = roots.to_vec();
    let mut found = Vec::new();
    while let Some(parent) = open.pop() {
        for child in below.remove(&parent).unwrap_or_default() {
            if seen.insert(child.pid) && !has_variable(child.pid, DETACHED_VARIABLE, "1") {
                open.push(child.pid);
                found.push(child);
            }
        }
    }
    found
}

/// Processes that were started with the variable `name=value`, without what is detached.
#[must_use]
pub fn with_variable(name: &str, value: &str) -> Vec<Stat> {
    all()
        .into_iter()
        .filter(|process| {
            has_variable(process.pid, name, value)
                && !has_variable(process.pid, DETACHED_VARIABLE, "1")
        })
        .collect()
}

fn has_variable(pid: u32, name: &str, value: &str) -> bool {
    let wanted = format!("{name}={value}").into_bytes();
    std::fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|block| block.split(|b| *b == 0).any(|entry| entry == wanted))
}

/// Processes that listen on a TCP port of this machine, and whether there is a listener whose process can't be seen.
#[must_use]
pub fn listeners(port: u16) -> (Vec<Stat>, bool) {
    let mut inodes = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| listening_inode(line, port)));
    }
    if inodes.is_empty() {
        return (Vec::new(), false);
    }
    let mut known = BTreeSet::new();
    let mut owners = Vec::new();
    for process in all() {
        let held: Vec<u64> =
            sockets(process.pid).into_iter().filter(|inode| inodes.contains(inode)).collect();
        if !held.is_empty() {
            known.extend(held);
            owners.push(process);
        }
    }
    (owners, known != inodes)
}

fn listening_inode(line: &str, port: u16) -> Option<u64> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let local = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
    (local == port && *fields.get(3)? == "0A").then(|| fields.get(9)?.parse().ok())?
}

fn sockets(pid: u32) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|target| {
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_are_read() {
        let line = "42 (a) (b c) S 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
        let stat = parse_stat(line).unwrap();
        assert_eq!(
            (stat.pid, stat.name.as_str(), stat.parent, stat.start_ticks),
            (42, "a) (b c", 1, 777)
        );
    }

    #[test]
    fn this_process_is_alive_and_a_later_one_is_not_it() {
        let mut me = ProcessId::current();
        assert!(me.is_alive());
        me.start_ticks += 1;
        assert!(!me.is_alive() && !me.signal(Signal::USR1));
    }

    #[test]
    fn finds_the_listener_of_a_port() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let (owners, unseen) = listeners(port);
        assert!(owners.iter().any(|p| p.pid == std::process::id()) && !unseen);
    }
}
