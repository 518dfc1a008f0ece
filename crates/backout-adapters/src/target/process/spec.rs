//! The files between a start and its supervisor. Each carries the version of its format.

use std::collections::BTreeMap;
use std::path::PathBuf;

use backout_core::ids::{LedgerId, ReleaseId, Unit, Version};
use backout_core::model::RestartPolicy;
use backout_core::ports::Exit;
use serde::{Deserialize, Serialize};

use crate::host::procfs::ProcessId;

/// Newest format of `spec.json`, `status.json` and the hand-over.
pub(crate) const FORMAT: u32 = 1;

/// Variable by which everything that a supervisor started can be found again.
pub(crate) const INSTANCE_VARIABLE: &str = "BACKOUT_INSTANCE";

/// `spec.json`: what a supervisor runs. Written before it is started; holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotSpec {
    pub format: u32,
    /// Random, another for each start.
    pub instance: String,
    /// The ledger that manages the slot.
    pub ledger: LedgerId,
    pub unit: Unit,
    pub deployment: u64,
    pub release: ReleaseId,
    pub version: Version,
    /// Program and arguments, everything filled in.
    pub command: Vec<String>,
    /// Whole environment but for secrets.
    pub env: BTreeMap<String, String>,
    /// Names of the variables that come over stdin.
    pub secret_env: Vec<String>,
    pub cwd: PathBuf,
    pub port: Option<u16>,
    pub restart: RestartPolicy,
    pub log_cap_bytes: u64,
}

/// Handed to the supervisor over stdin.
#[derive(Serialize, Deserialize)]
pub(crate) struct HandOver {
    pub format: u32,
    pub instance: String,
    pub secrets: BTreeMap<String, String>,
}

/// How far a supervisor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// It has not started the program yet.
    Starting,
    /// The program was started and has not ended.
    Running,
    /// The program has ended and will be started again.
    Waiting,
    /// It was asked to end everything.
    Stopping,
    /// Everything was ended as asked.
    Stopped,
    /// The program ended too often.
    GaveUp,
    /// The program could not be started at all.
    Failed,
}

/// `status.json`, written by the supervisor on each change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub format: u32,
    /// The start it belongs to.
    pub instance: String,
    pub supervisor: ProcessId,
    pub child: Option<ProcessId>,
    pub phase: Phase,
    pub restarts: u32,
    pub last_exit: Option<Exit>,
    /// Why the program could not be started.
    pub error: Option<String>,
    /// For people without `spec.json` at hand.
    pub port: Option<u16>,
    pub deployment: u64,
    pub release: ReleaseId,
    pub version: Version,
}

/// `stop.json`: how long the supervisor waits between asking and killing.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct StopOrder {
    pub format: u32,
    pub grace_ms: u64,
}

impl Status {
    pub(crate) fn new(spec: &SlotSpec) -> Self {
        Self {
            format: FORMAT,
            instance: spec.instance.clone(),
            supervisor: ProcessId::current(),
            child: None,
            phase: Phase::Starting,
            restarts: 0,
            last_exit: None,
            error: None,
            port: spec.port,
            deployment: spec.deployment,
            release: spec.release.clone(),
            version: spec.version.clone(),
        }
    }
}
