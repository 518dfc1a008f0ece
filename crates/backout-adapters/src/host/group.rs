//! Ending process groups and whole families of processes.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use super::procfs::ProcessId;

/// How long a kill may take to be obeyed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
const SLOWEST_POLL: Duration = Duration::from_millis(100);

/// Sends a signal to a process group. False if nothing is in it.
pub fn signal_group(group: u32, signal: Signal) -> bool {
    to_pid(group).is_some_and(|pid| kill_process_group(pid, signal).is_ok())
}

/// Whether a process group has members, ended ones included until they were waited for.
pub(crate) fn group_exists(group: u32) -> bool {
    to_pid(group).is_some_and(|pid| test_kill_process_group(pid).is_ok())
}

fn to_pid(group: u32) -> Option<Pid> {
    // Group 1 and below would mean everything this user may signal.
    i32::try_from(group).ok().filter(|g| *g > 1).and_then(Pid::from_raw)
}

/// Time to the next look after waiting so long: looking through all processes has its price.
pub(crate) fn next_poll(waited: Duration) -> Duration {
    (waited / 10).clamp(POLL, SLOWEST_POLL)
}

/// Asks the processes that `find` names to end, waits up to `grace`, then kills what is left and what was
/// forked meanwhile. Returns those that could not be ended.
pub async fn end_processes(find: impl Fn() -> Vec<ProcessId>, grace: Duration) -> Vec<ProcessId> {
    let mut left = find();
    for process in &left {
        let _ = process.signal(Signal::TERM);
    }
    let asked = Instant::now();
    while !left.is_empty() && asked.elapsed() < grace {
        tokio::time::sleep(next_poll(asked.elapsed()).min(grace.saturating_sub(asked.elapsed())))
            .await;
        left = find();
    }
    let killing = Instant::now();
    while !left.is_empty() && killing.elapsed() < KILL_PATIENCE {
        for process in &left {
            let _ = process.signal(Signal::KILL);
        }
        tokio::time::sleep(next_poll(killing.elapsed())).await;
        left = find();
    }
    left
}

/// Ends its process group when dropped, unless it was let go: what a cancelled caller started must not go on.
#[derive(Debug)]
pub(crate) struct GroupGuard {
    group: u32,
    armed: bool,
    grace: Duration,
}

impl GroupGuard {
    pub(crate) fn new(group: u32, grace: Duration) -> Self {
        Self { group, armed: true, grace }
    }

    pub(crate) fn let_go(&mut self) {
        self.armed = false;
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if !self.armed || !signal_group(self.group, Signal::TERM) {
            return;
        }
        let (group, grace) = (self.group, self.grace);
        // A thread, because the runtime may be going down with whoever dropped this.
        let waiter = std::thread::Builder::new().name("end-group".to_owned()).spawn(move || {
            let end = Instant::now() + grace;
            while group_exists(group) && Instant::now() < end {
                std::thread::sleep(POLL);
            }
            signal_group(group, Signal::KILL);
        });
        if waiter.is_err() {
            signal_group(self.group, Signal::KILL);
        }
    }
}
