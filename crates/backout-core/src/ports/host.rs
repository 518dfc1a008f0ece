//! Where commands run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::AdapterError;
use super::step_cx::Secret;
use crate::ids::{HostName, Unit};

/// One command. No shell reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCommand {
    /// Program and arguments. A program with a slash is relative to `folder`, one without is looked up on the host's
    /// `PATH`.
    pub argv: Vec<String>,
    /// Variables beside those that the host gives. Values never stand in an argument list.
    pub env: BTreeMap<String, Secret>,
    /// The working folder; relative: below the folder that the host has for us. `None`: that folder.
    pub folder: Option<String>,
    /// What it reads; `None`: nothing.
    pub stdin: Option<Vec<u8>>,
    /// Its time limit; past it the command and all of its process group are ended.
    pub timeout: Duration,
    /// Bytes kept of the beginning and of the end of each stream.
    pub keep: usize,
    /// It changes something; `None`: it only looks.
    pub change: Option<HostChange>,
}

impl HostCommand {
    /// A command that only looks.
    #[must_use]
    pub fn look<T: Into<String>>(argv: impl IntoIterator<Item = T>, timeout: Duration) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            folder: None,
            stdin: None,
            timeout,
            keep: 16 << 10,
            change: None,
        }
    }
}

/// What a command that changes something is about: one at a time runs for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostChange {
    /// The unit. Another change of the same service that still runs is ended first, one of the same step is joined.
    pub unit: Unit,
    /// Idempotency key.
    pub step: String,
    /// Epoch of the lease; an older one than the host has seen is refused.
    pub epoch: u64,
    /// Armed before the command starts.
    pub revert: Option<HostRevert>,
}

/// A change that a host takes back by itself unless it is confirmed in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRevert {
    /// The deployment whose change is guarded.
    pub deployment: u64,
    /// From the end of the change's last command on.
    pub within: Duration,
    /// The way back: commands that run one after the other, up to the first that fails.
    pub commands: Vec<Vec<String>>,
    /// Variables of the way back.
    pub env: BTreeMap<String, Secret>,
    /// Working folder of the way back, as in [`HostCommand::folder`].
    pub folder: Option<String>,
    /// Time limit of the way back.
    pub timeout: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostEnded {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal that was not ours.
    Signalled(i32),
    /// It was ended because its time was over.
    TimedOut,
}

/// A command that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOutput {
    /// How it ended.
    pub ended: HostEnded,
    /// Its stdout; a note stands where bytes are missing.
    pub stdout: Vec<u8>,
    /// Its stderr.
    pub stderr: Vec<u8>,
    /// Bytes are missing in the middle of stdout.
    pub cut: bool,
    /// How long it ran.
    pub took: Duration,
}

/// What is known of the guard of a unit's last change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostGuard {
    /// The guarded deployment.
    pub deployment: u64,
    /// What has become of it.
    pub state: GuardState,
}

/// What has become of a guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardState {
    /// The host waits for the confirmation.
    Armed,
    /// Nobody waits any more and nothing was taken back: the host was restarted, or its watcher was killed.
    Lost,
    /// The change stays.
    Confirmed,
    /// The way back is under way.
    Reverting,
    /// It was taken back.
    Reverted(Timestamp),
    /// The way back failed, with what it said.
    Failed(Timestamp, String),
}

/// The end of what the changing calls of a service have written on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostWords {
    /// Of their stdout.
    pub stdout: Vec<u8>,
    /// Of their stderr.
    pub stderr: Vec<u8>,
    /// What the way back has written that the host went by itself, where the last change was guarded.
    pub revert: Vec<u8>,
}

/// A machine on which commands run.
#[async_trait]
pub trait Host: Send + Sync {
    /// Its name.
    fn name(&self) -> &HostName;

    /// Runs a command to its end. Dropping the future ends what it runs; the outcome is then unknown.
    ///
    /// # Errors
    /// Permanent or transient: it did not start. Unknown: whether it ran, or how it ended, can't be told. A command that
    /// only looks is never unknown.
    async fn run(&self, command: &HostCommand) -> Result<HostOutput, AdapterError>;

    /// A file of at most `limit` bytes; `None` if there is none.
    ///
    /// # Errors
    /// Permanent if it is longer or may not be read.
    async fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, AdapterError>;

    /// Replaces a file: afterwards it is the old or the new one, whatever happened. Missing folders are made, for their
    /// owner only.
    ///
    /// # Errors
    /// Unknown when it can't be told which of both it is.
    async fn write_atomic(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), AdapterError>;

    /// Whether there is such a file, folder or anything else.
    ///
    /// # Errors
    /// Transient when it can't be told now.
    async fn exists(&self, path: &str) -> Result<bool, AdapterError>;

    /// A socket of this machine that leads to a Unix socket of the host, whether or not somebody listens there. It holds
    /// for as long as the connection: ask for it before each use. Another path than before says that the connection
    /// broke in between. Only this user may use it.
    ///
    /// # Errors
    /// Permanent when the path is not an absolute one. Transient when the host can't be reached.
    async fn forward_socket(&self, remote: &str) -> Result<PathBuf, AdapterError>;

    /// Whether a change of the unit's service is at work.
    ///
    /// # Errors
    /// Transient when it can't be told now.
    async fn is_at_work(&self, unit: &Unit) -> Result<bool, AdapterError>;

    /// The last words of the changing calls of the unit's service, at most `limit` bytes of each stream.
    ///
    /// # Errors
    /// Transient when they can't be had now.
    async fn last_words(&self, unit: &Unit, limit: usize) -> Result<HostWords, AdapterError>;

    /// The guard of the unit's last change, if it had one.
    ///
    /// # Errors
    /// Transient when it can't be told now.
    async fn guard(&self, unit: &Unit) -> Result<Option<HostGuard>, AdapterError>;

    /// Lets a guarded change stay. Idempotent; the guard as it is then.
    ///
    /// # Errors
    /// Permanent when the change was taken back already. Unknown when the confirmation may have come too late.
    async fn confirm(
        &self,
        unit: &Unit,
        deployment: u64,
    ) -> Result<Option<HostGuard>, AdapterError>;

    /// Ends what is open to the host: connections and what keeps them. What was guarded stays guarded.
    async fn close(&self);
}
