//! What the ledger knows of one environment.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::words::Health;
use crate::ids::{EnvironmentKey, ReleaseId, ServiceName, Slot, Version};
use crate::ports::Running;

/// How far the content of a slot is, as far as the ledger knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Start was intended; it may run.
    Starting,
    /// Start was observed.
    Running,
    /// Stop was intended; it may still run.
    Stopping,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// The deployment that put it there.
    pub deployment: u64,
    /// The release.
    pub release: ReleaseId,
    /// Its label.
    pub version: Version,
    /// How far.
    pub state: SlotState,
    /// The services that may run there.
    #[serde(default)]
    pub services: BTreeSet<ServiceName>,
}

impl SlotRecord {
    /// What to make of an observation of the slot: where it can't be told whether anything runs, a start
    /// or stop that was cut off is not taken for something that runs.
    #[must_use]
    pub fn believed(&self, seen: Running) -> Running {
        match seen {
            Running::Unknown if self.state != SlotState::Running => Running::No,
            seen => seen,
        }
    }
}

/// One check of a list (rollback readiness, safety checks, doctor).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessCheck {
    /// Its name, such as `artifact_available`.
    pub name: String,
    /// Result.
    pub status: Severity,
    /// Why, for people.
    pub message: String,
}

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Proven.
    Pass,
    /// Works, but.
    Warning,
    /// Refuses.
    Error,
}

impl Severity {
    /// `pass`, `warning` or `error`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Pass => "pass",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// Rollback readiness of what is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessReport {
    /// The deployment a bare rollback would go back to.
    pub deployment: u64,
    /// Its version.
    pub version: Version,
    /// No check is an error.
    pub ready: bool,
    /// When it was proven.
    pub checked_at: Timestamp,
    /// The items.
    pub checks: Vec<ReadinessCheck>,
    /// Time to restore that may be expected, milliseconds.
    pub expected_ms: Option<u64>,
}

/// Last health seen of what is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveHealth {
    /// Overall.
    pub overall: Health,
    /// By service.
    pub services: BTreeMap<String, Health>,
    /// When.
    pub checked_at: Timestamp,
    /// Two intervals of the slowest check, milliseconds: older than this it is `unknown`.
    pub fresh_for_ms: u64,
}

/// The row of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRecord {
    /// App and environment.
    pub key: EnvironmentKey,
    /// Number of the live deployment.
    pub live: Option<u64>,
    /// Number for the next deployment; `adopt` makes 0, the first deploy 1.
    pub next_number: u64,
    /// What the slots hold.
    pub slots: BTreeMap<Slot, SlotRecord>,
    /// Folder of `backout.yaml` at the last operation.
    pub folder: Option<String>,
    /// Whether `router.builtin` has a route of ours.
    #[serde(default)]
    pub routed: bool,
    /// A script has printed a version before, so its silence can be believed.
    #[serde(default)]
    pub script_reports_version: bool,
}

impl EnvironmentRecord {
    /// An environment that nothing has happened in.
    #[must_use]
    pub fn new(key: EnvironmentKey) -> Self {
        Self {
            key,
            live: None,
            next_number: 1,
            slots: BTreeMap::new(),
            folder: None,
            routed: false,
            script_reports_version: false,
        }
    }

    /// The slot that holds a deployment.
    #[must_use]
    pub fn slot_of(&self, deployment: u64) -> Option<Slot> {
        self.slots.iter().find(|(_, record)| record.deployment == deployment).map(|(slot, _)| *slot)
    }
}
