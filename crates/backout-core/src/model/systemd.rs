//! `target.systemd`: one service as a unit of systemd whose program is reached through a link.

use serde::{Deserialize, Serialize};

use super::target::PortSpec;

/// The service manager that has the unit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemdBus {
    /// The system's.
    #[default]
    System,
    /// The one of the user who calls.
    User,
    /// The one that is reached at this address of D-Bus.
    Address(String),
}

/// A file that defines a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnitFile {
    /// Its path.
    pub path: String,
    /// `sha256:` and hex digits over its content.
    pub digest: String,
}

/// `target.systemd`: one service as a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemdSpec {
    /// Name of the unit; `{slot}` is filled in where two releases stand side by side.
    pub unit: String,
    /// Files or folders that make a release, relative to the folder of `backout.yaml`; may hold `{version}`.
    pub artifact: Vec<String>,
    /// The link to the release that runs, which the unit names; absolute, or relative to the folder of `backout.yaml`.
    /// Holds `{slot}` where the unit does.
    pub current: String,
    /// The folder in which releases are kept, as `current` is written.
    pub releases: String,
    /// The port it listens on.
    #[serde(default)]
    pub port: Option<PortSpec>,
    /// Whose unit it is.
    #[serde(default)]
    pub bus: SystemdBus,
    /// The manager's root folder as it is seen from here, for one in a container; none: the same.
    #[serde(default)]
    pub root: Option<String>,
    /// Limit of one start or stop, milliseconds.
    pub timeout_ms: u64,
    /// The unit's files that do not come back with the release. Known once a release is made.
    #[serde(default)]
    pub files: Vec<UnitFile>,
}

impl SystemdSpec {
    /// Two releases can stand side by side: each slot has a unit of its own.
    #[must_use]
    pub fn has_slots(&self) -> bool {
        self.unit.contains("{slot}")
    }
}
