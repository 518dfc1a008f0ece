//! A server under measurement: started, waited for, looked at, ended by its process id.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Outcome, needs, run};

const READY_WITHIN: Duration = Duration::from_secs(10);
const END_WITHIN: Duration = Duration::from_secs(5);
/// Linux counts processor time for programs in hundredths of a second, whatever its own tick.
const TICKS_PER_SECOND: f64 = 100.0;
/// Fields of `/proc/…/stat` between the name and the times of the process itself.
const OWN: usize = 11;
/// The same for the times of its children that were waited for.
const CHILDREN: usize = 13;

/// A child that is ended when this goes out of scope.
pub(super) struct Server {
    child: Child,
    words: String,
}

impl Server {
    pub(super) fn start(mut command: Command) -> Outcome<Self> {
        let words = run::words(&command);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .env("PATH", needs::with_system_folders())
            .spawn()
            .map_err(|e| format!("failed to start `{words}`: {e}"))?;
        Ok(Self { child, words })
    }

    /// Waits until `ready` gives something; fails when the process ends or takes too long.
    pub(super) fn wait_for<T>(&mut self, mut ready: impl FnMut() -> Option<T>) -> Outcome<T> {
        let start = Instant::now();
        while start.elapsed() < READY_WITHIN {
            if let Some(value) = ready() {
                return Ok(value);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("`{}` ended with {status} before it was ready", self.words));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(format!("`{}` was not ready within {READY_WITHIN:?}", self.words))
    }

    /// Processor seconds so far, user and system, of the process and its children.
    pub(super) fn cpu_seconds(&self) -> Outcome<f64> {
        let mut ticks = 0;
        for pid in self.family() {
            ticks += cpu_ticks(pid)?;
        }
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    /// The most memory held so far, in MiB: peaks of the process and its children, summed.
    pub(super) fn peak_memory_mib(&self) -> Outcome<f64> {
        let mut kib = 0;
        for pid in self.family() {
            let path = format!("/proc/{pid}/status");
            let text =
                fs::read_to_string(&path).map_err(|e| format!("failed to read {path}: {e}"))?;
            kib += peak_kib(&text).ok_or(format!("failed to find VmHWM in {path}"))?;
        }
        Ok(kib as f64 / 1024.0)
    }

    fn family(&self) -> Vec<u32> {
        let own = self.child.id();
        let path = format!("/proc/{own}/task/{own}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        std::iter::once(own)
            .chain(children.split_whitespace().filter_map(|pid| pid.parse().ok()))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut kill = Command::new("kill");
        kill.args(["-TERM", &self.child.id().to_string()]);
        let asked = Instant::now();
        while run_quietly(&mut kill) && asked.elapsed() < END_WITHIN {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn run_quietly(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn cpu_ticks(pid: u32) -> Outcome<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|e| format!("failed to read {path}: {e}"))?;
    parse_ticks(&text).ok_or(format!("failed to read {path}"))
}

/// Processor seconds of all children of this program that have ended and were waited for, and of theirs.
pub(super) fn cpu_seconds_of_ended_children() -> Outcome<f64> {
    let path = "/proc/self/stat";
    let text = fs::read_to_string(path).map_err(|e| format!("failed to read {path}: {e}"))?;
    let ticks = parse_ticks_at(&text, CHILDREN).ok_or(format!("failed to read {path}"))?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// `utime` and `stime`: the 14th and 15th field; the 2nd, a name in brackets, may hold blanks.
fn parse_ticks(stat: &str) -> Option<u64> {
    parse_ticks_at(stat, OWN)
}

fn parse_ticks_at(stat: &str, fields_after_name: usize) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(fields_after_name);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

pub(super) fn peak_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// An address that was free a moment ago.
pub(super) fn free_address() -> Outcome<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|e| format!("failed to find a free port: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_past_a_strange_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 9 9 20 0 1 0 1 1 1";
        assert_eq!(parse_ticks(stat), Some(300));
        assert_eq!(parse_ticks_at(stat, CHILDREN), Some(18));
        assert_eq!(parse_ticks("7 (a"), None);
    }

    #[test]
    fn our_own_figures_can_be_read() {
        assert!(cpu_ticks(std::process::id()).is_ok());
        assert!(cpu_seconds_of_ended_children().unwrap() >= 0.0);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(peak_kib(&status).unwrap() > 100);
    }

    #[test]
    fn a_server_that_ends_early_is_told_and_one_that_stays_is_ended() {
        let mut gone = Server::start(Command::new("false")).unwrap();
        let error = gone.wait_for(|| None::<()>).unwrap_err();
        assert!(error.contains("before it was ready"), "{error}");
        let mut command = Command::new("sleep");
        command.arg("1000");
        let stays = Server::start(command).unwrap();
        let proc = format!("/proc/{}", stays.child.id());
        assert!(fs::exists(&proc).unwrap());
        drop(stays);
        assert!(!fs::exists(&proc).unwrap());
    }
}
