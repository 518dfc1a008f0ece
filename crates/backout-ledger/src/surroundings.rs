//! The clock and the processes that leases depend on; a trait, so that tests can turn the clock.

use backout_core::ports::Holder;
use rustix::time::{ClockId, clock_gettime};

use crate::faults::mutant;

/// What can be said of the process of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It runs, or is stopped.
    Lives,
    /// It has ended (a zombie too), or the machine was started again since.
    Gone,
    /// It can't be seen from here (another process namespace): only its term counts.
    Unknown,
}

/// Clock and processes.
pub trait Surroundings: Send + Sync {
    /// Milliseconds since boot, suspend included. Nobody can set this clock.
    fn boottime_ms(&self) -> u64;

    /// Whether the process of a holder still lives.
    fn liveness(&self, holder: &Holder) -> Liveness;
}

/// The real ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealSurroundings;

impl Surroundings for RealSurroundings {
    fn boottime_ms(&self) -> u64 {
        // A clock that people and time servers set would end leases too early, or never.
        if mutant("lease_by_wall_clock") {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            return now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0));
        }
        let now = clock_gettime(ClockId::Boottime);
        let whole = u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1000);
        whole + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
    }

    fn liveness(&self, holder: &Holder) -> Liveness {
        let Ok(ours) = boot_id() else { return Liveness::Unknown };
        if boot_part(&holder.boot_id) != boot_part(&ours) {
            return Liveness::Gone;
        }
        if holder.boot_id != ours {
            return Liveness::Unknown;
        }
        match process_stat(holder.pid) {
            Ok(Some(stat)) if stat.start == holder.pid_start && !stat.ended => Liveness::Lives,
            Ok(_) => Liveness::Gone,
            Err(_) => Liveness::Unknown,
        }
    }
}

/// The boot, and behind a `/` the process namespace: equal pids in different namespaces are different processes.
pub(crate) fn boot_id() -> std::io::Result<String> {
    let boot = fs_err::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let namespace = fs_err::read_link("/proc/self/ns/pid")
        .map(|link| link.to_string_lossy().chars().filter(char::is_ascii_digit).collect::<String>())
        .unwrap_or_default();
    Ok(format!("{}/{namespace}", boot.trim()))
}

/// Whether a process lives, or lived, since this machine was started.
pub(crate) fn is_of_this_boot(holder: &Holder) -> bool {
    boot_id().is_ok_and(|ours| boot_part(&holder.boot_id) == boot_part(&ours))
}

fn boot_part(boot_id: &str) -> &str {
    boot_id.split('/').next().unwrap_or(boot_id)
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    /// Field 22: clock ticks since boot.
    pub start: u64,
    /// A zombie, or about to vanish.
    pub ended: bool,
}

/// `None` if there is no such process.
pub(crate) fn process_stat(pid: u32) -> std::io::Result<Option<ProcessStat>> {
    let text = match fs_err::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        // The process ended between opening and reading.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match parse_stat(&text) {
        Some(stat) => Ok(Some(stat)),
        None => Err(std::io::Error::other(format!("/proc/{pid}/stat is not understood"))),
    }
}

/// The name of the program, in parentheses, may hold anything, so fields are counted behind the last `)`.
fn parse_stat(text: &str) -> Option<ProcessStat> {
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some(ProcessStat { start, ended: matches!(state, "Z" | "X" | "x") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_state_and_start_behind_a_hostile_name() {
        let fields = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18";
        let text = format!("77 (a) Z 9) 1) S {fields} 4242 0");
        assert_eq!(parse_stat(&text), Some(ProcessStat { start: 4242, ended: false }));
        let text = format!("77 (x) Z {fields} 5 0");
        assert_eq!(parse_stat(&text), Some(ProcessStat { start: 5, ended: true }));
        assert_eq!(parse_stat("77 (x) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn boots_and_namespaces_are_told_apart() {
        let ours = boot_id().unwrap();
        let me = process_stat(std::process::id()).unwrap().unwrap();
        let holder = Holder {
            label: "x".to_owned(),
            pid: std::process::id(),
            pid_start: me.start,
            boot_id: ours.clone(),
            activity: "deploy".to_owned(),
            person: true,
            goes_back: true,
        };
        let real = RealSurroundings;
        assert_eq!(real.liveness(&holder), Liveness::Lives);
        assert_eq!(
            real.liveness(&Holder { pid_start: me.start + 1, ..holder.clone() }),
            Liveness::Gone
        );
        assert_eq!(
            real.liveness(&Holder { boot_id: "elsewhere/1".to_owned(), ..holder.clone() }),
            Liveness::Gone
        );
        let other_namespace = format!("{}/1", boot_part(&ours));
        assert_eq!(
            real.liveness(&Holder { boot_id: other_namespace, ..holder }),
            Liveness::Unknown
        );
    }

    #[test]
    fn an_ended_child_is_gone_before_and_after_it_is_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let mut tries = 0;
        while process_stat(pid).unwrap().is_some_and(|stat| !stat.ended) {
            tries += 1;
            assert!(tries < 1000, "the child should end");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(
            process_stat(pid).unwrap().is_some_and(|stat| stat.ended),
            "a zombie counts as ended"
        );
        child.wait().unwrap();
        assert_eq!(process_stat(pid).unwrap(), None);
    }

    #[test]
    fn the_clock_runs() {
        let first = RealSurroundings.boottime_ms();
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert!(RealSurroundings.boottime_ms() > first);
    }
}
