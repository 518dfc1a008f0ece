//! Everything below the supervisor: the program, what it forked, and what was orphaned and adopted.

use std::time::{Duration, Instant};

use backout_core::ports::Exit;
use jiff::Timestamp;
use rustix::process::{Signal, WaitOptions, wait};

use crate::host::procfs::{self, ProcessId};
use crate::host::{next_poll, signal_group};

/// How long a kill may take to be obeyed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Family;

impl Family {
    pub(crate) fn new() -> Self {
        Self
    }

    /// All living descendants.
    pub(crate) fn members() -> Vec<ProcessId> {
        procfs::descendants(&[std::process::id()]).into_iter().map(|p| p.id()).collect()
    }

    /// Waits for all that have ended, without blocking. Returns how the program ended, if it was among them.
    pub(crate) fn reap(&mut self, program: u32) -> Option<Exit> {
        let mut found = None;
        // Ends when nobody has ended (`None`) or nobody is left (an error).
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if u32::try_from(pid.as_raw_pid()).ok() == Some(program) {
                found = Some(Exit {
                    code: status.exit_status(),
                    signal: status.terminating_signal(),
                    at: Timestamp::now(),
                });
            }
        }
        found
    }

    /// Asks everybody to end, waits up to `grace`, then kills whoever is left. Returns how the program ended.
    pub(crate) async fn end(&mut self, program: Option<u32>, grace: Duration) -> Option<Exit> {
        let group = program.unwrap_or_default();
        signal_group(group, Signal::TERM);
        for member in Self::members() {
            if procfs::stat(member.pid).is_some_and(|s| s.group != group) {
                let _ = member.signal(Signal::TERM);
            }
        }
        let asked = Instant::now();
        let mut killing = None;
        let mut exit = None;
        loop {
            exit = self.reap(group).or(exit);
            let left = Self::members();
            if left.is_empty() {
                // Ended between the two looks, perhaps.
                return self.reap(group).or(exit);
            }
            if asked.elapsed() >= grace {
                let since = *killing.get_or_insert_with(Instant::now);
                signal_group(group, Signal::KILL);
                for member in &left {
                    let _ = member.signal(Signal::KILL);
                }
                if since.elapsed() >= KILL_PATIENCE {
                    return exit;
                }
            }
            tokio::time::sleep(next_poll(asked.elapsed())).await;
        }
    }
}
