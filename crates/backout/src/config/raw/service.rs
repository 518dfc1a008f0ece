//! `services`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::health::RawServiceHealth;
use super::target::{RawPort, RawRestart};
use super::written::{At, Entries, EnvText, OneOrMany};
use crate::config::scalar::Duration;

/// A deployable part of the application, with what differs from the target's settings.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawService {
    /// Services that must run before it.
    pub depends_on: Option<Vec<At<String>>>,
    /// `none` for a service that serves no requests.
    pub traffic: Option<RawTraffic>,
    /// It runs to its end in each deploy: exit 0 is success, anything else takes the deploy back. Default: false.
    pub job: Option<At<bool>>,
    /// Whether a job runs again on the way back. Default: skip.
    pub on_rollback: Option<At<RawOnRollback>>,
    /// What is checked for this service.
    pub health: Option<At<RawServiceHealth>>,
    /// Process target: program and arguments, as a list.
    pub command: Option<At<Vec<String>>>,
    /// Process target: environment, merged over the target's.
    pub env: Option<At<Entries<EnvText>>>,
    /// Process target: working folder.
    pub workdir: Option<At<String>>,
    /// Process or systemd target: file or folder that is copied per release, or a list of them.
    pub artifact: Option<At<OneOrMany>>,
    /// Process or systemd target: port it listens on, or auto.
    pub port: Option<At<RawPort>>,
    /// Process target: name of the variable that carries the port.
    pub port_env: Option<At<String>>,
    /// Process target: restarts by the supervisor.
    pub restart: Option<At<RawRestart>>,
    /// Script target: the program.
    pub program: Option<At<String>>,
    /// Script target: arguments before the verb.
    pub args: Option<At<Vec<String>>>,
    /// Systemd target: name of the unit.
    pub unit: Option<At<String>>,
    /// Systemd or git target: the link to the release that runs.
    pub current: Option<At<String>>,
    /// Git target: the working tree.
    pub repository: Option<At<String>>,
    /// Limit of one call of the target, or of a job.
    pub timeout: Option<At<Duration>>,
}

/// Whether requests go to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawTraffic {
    /// It serves no requests; it stops before its new version starts, so that no job runs twice.
    None,
}

/// What a job does on the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawOnRollback {
    /// Nothing: it ran, and is not run again.
    Skip,
    /// That of the release that is gone back to runs, in its place in the order.
    Run,
}
