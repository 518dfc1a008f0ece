//! Commands that ran, and commands that run.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::PATIENCE;

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    /// Its words.
    pub args: String,
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said to people.
    pub stderr: String,
}

impl Ran {
    pub(super) fn new(args: String, status: ExitStatus, stdout: String, stderr: String) -> Self {
        Self { args, code: status.code(), signal: status.signal(), stdout, stderr }
    }

    /// Fails the test unless it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "`backout {}` (signal {:?})\n--- stdout\n{}\n--- stderr\n{}",
            self.args,
            self.signal,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Its one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("`backout {}`: {error} in\n{}\n{}", self.args, self.stdout, self.stderr)
        })
    }

    /// Fails the test unless standard error says this.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(
            self.stderr.contains(words),
            "`backout {}` does not say {words:?}:\n{}",
            self.args,
            self.stderr
        );
        self
    }
}

/// A command that runs.
pub struct Background {
    pub(super) args: String,
    pub(super) child: Option<Child>,
    pub(super) stdout: std::path::PathBuf,
    pub(super) stderr: std::path::PathBuf,
}

impl Background {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// What it printed so far.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it said so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        let mut child = self.child.take().unwrap();
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("`backout {}` does not end:\n{}", self.args, self.stderr());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        Ran::new(self.args.clone(), status, read(&self.stdout), read(&self.stderr))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
