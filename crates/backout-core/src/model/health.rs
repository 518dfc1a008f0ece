//! What is checked, and how often. Thresholds and statistics belong to the judge's settings.

use serde::{Deserialize, Serialize};

/// The health checks of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HealthSpec {
    /// All must pass. Empty: the target knows by itself (process running).
    #[serde(default)]
    pub probes: Vec<ProbeSpec>,
}

/// One check with its own schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeSpec {
    /// A URL.
    Http {
        /// What is asked.
        check: HttpCheck,
        /// When.
        schedule: CheckSchedule,
    },
    /// `host:port` accepts a connection.
    Tcp {
        /// The address; `{port}` and `{slot}` are filled in.
        address: String,
        /// When.
        schedule: CheckSchedule,
    },
    /// A command exits 0.
    Exec {
        /// Program and arguments; `{port}`, `{slot}`, `{version}` and `{release}` are filled in.
        command: Vec<String>,
        /// When.
        schedule: CheckSchedule,
    },
}

impl ProbeSpec {
    /// Its word in `backout.yaml`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            ProbeSpec::Http { .. } => "http",
            ProbeSpec::Tcp { .. } => "tcp",
            ProbeSpec::Exec { .. } => "exec",
        }
    }

    /// When it runs.
    #[must_use]
    pub fn schedule(&self) -> &CheckSchedule {
        match self {
            ProbeSpec::Http { schedule, .. }
            | ProbeSpec::Tcp { schedule, .. }
            | ProbeSpec::Exec { schedule, .. } => schedule,
        }
    }

    /// Whether it asks each host by its own address: its text names `{host}`.
    #[must_use]
    pub fn names_a_host(&self) -> bool {
        let has = |text: &str| text.contains("{host}");
        match self {
            ProbeSpec::Http { check, .. } => has(&check.url),
            ProbeSpec::Tcp { address, .. } => has(address),
            ProbeSpec::Exec { command, .. } => command.iter().any(|text| has(text)),
        }
    }

    /// Whether it can tell one side from the other: its text names `{port}` or `{slot}`.
    #[must_use]
    pub fn names_a_side(&self) -> bool {
        let has = |text: &str| text.contains("{port}") || text.contains("{slot}");
        match self {
            ProbeSpec::Http { check, .. } => has(&check.url),
            ProbeSpec::Tcp { address, .. } => has(address),
            ProbeSpec::Exec { command, .. } => command.iter().any(|text| has(text)),
        }
    }
}

/// What an `http` check asks and expects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCheck {
    /// The address; `{port}` and `{slot}` are filled in.
    pub url: String,
    /// Fields that the JSON body must have.
    #[serde(default)]
    pub required_fields: Vec<String>,
}

/// When a check runs. All in milliseconds but `retries`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSchedule {
    /// Steady state: from one start to the next.
    pub interval_ms: u64,
    /// One check, retries included.
    pub timeout_ms: u64,
    /// Steady state: tries after the first.
    pub retries: u32,
    /// Steady state: wait before the first check.
    pub initial_delay_ms: u64,
    /// Rollout and bake: from one start to the next, without retries.
    pub rollout_interval_ms: u64,
    /// Rollout and bake: wait before the first check.
    pub rollout_initial_delay_ms: u64,
}

impl Default for CheckSchedule {
    fn default() -> Self {
        Self {
            interval_ms: 30_000,
            timeout_ms: 10_000,
            retries: 3,
            initial_delay_ms: 30_000,
            rollout_interval_ms: 1_000,
            rollout_initial_delay_ms: 0,
        }
    }
}
