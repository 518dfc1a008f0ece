//! What really runs, read from `/proc`.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// A process that belongs to a test's folder.
#[derive(Debug, Clone)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Its words.
    pub argv: Vec<String>,
}

impl Process {
    /// Whether one of its words is this.
    pub fn has(&self, word: &str) -> bool {
        self.argv.iter().any(|arg| arg == word)
    }

    /// The word after this one.
    pub fn after(&self, word: &str) -> Option<&str> {
        let at = self.argv.iter().position(|arg| arg == word)?;
        self.argv.get(at + 1).map(String::as_str)
    }

    /// Sends it a signal; one that is gone already is no failure.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Processes with a word that names `folder`; zombies have no words.
pub fn of(folder: &Path) -> Vec<Process> {
    let needle = folder.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        if words.contains(&needle) {
            let argv = words.trim_end_matches('\0').split('\0').map(str::to_owned).collect();
            found.push(Process { pid, argv });
        }
    }
    found
}

/// Ends all of them. Supervisors start their programs again, so in rounds until nothing is left.
pub fn end_all(folder: &Path) {
    for _ in 0..100 {
        let running = of(folder);
        if running.is_empty() {
            return;
        }
        let (first, rest): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|process| process.has("supervise"));
        for process in first.iter().chain(&rest) {
            process.signal(Signal::KILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
