//! How Backout acts: always from today's file, never from a release.

use std::net::SocketAddr;

use backout_judge::Settings as JudgeSettings;
use serde::{Deserialize, Serialize};

use super::target::TargetKind;
use crate::ids::HostName;

/// Everything that decides how an operation runs.
#[derive(Debug, Clone)]
pub struct Policy {
    /// People must give a reason here.
    pub production: bool,
    /// What runs the services.
    pub target: TargetKind,
    /// How a release replaces another.
    pub strategy: Strategy,
    /// What moves traffic.
    pub router: RouterPolicy,
    /// How a side is ended.
    pub shutdown: Shutdown,
    /// Limit of a deploy's own work, milliseconds; holds and bake do not count.
    pub deploy_timeout_ms: u64,
    /// The watch after 100 %, milliseconds.
    pub bake_ms: u64,
    /// Rollback rules.
    pub rollback: RollbackPolicy,
    /// How samples become verdicts.
    pub judge: JudgeSettings,
    /// Names whose values are redacted and never recorded.
    pub secrets: Vec<String>,
    /// Where services run.
    pub hosts: HostsPolicy,
}

/// `hosts`, and how many of them are worked on at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostsPolicy {
    /// The hosts, in the order of the file; never empty.
    pub names: Vec<HostName>,
    /// Steps on so many of them run at the same time; at least 1.
    pub at_once: usize,
    /// Each begins up to so much later than it could, drawn at random, milliseconds.
    pub jitter_ms: u64,
    /// A host goes back by itself unless it hears within that time that the change is good, milliseconds.
    pub confirm_ms: Option<u64>,
}

impl Default for HostsPolicy {
    /// This machine alone.
    fn default() -> Self {
        Self { names: vec![HostName::local()], at_once: 1, jitter_ms: 0, confirm_ms: None }
    }
}

/// How many hosts, or instances on one host, a rolling release replaces together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Batch {
    /// So many; at least 1.
    Count(u32),
    /// This share of all, rounded up; 1 to 100.
    Percent(u8),
}

impl Batch {
    /// How many of `all` are in one batch; at least 1.
    #[must_use]
    pub fn size(self, all: usize) -> usize {
        match self {
            Batch::Count(count) => usize::try_from(count).unwrap_or(usize::MAX).max(1),
            Batch::Percent(percent) => (all * usize::from(percent.min(100))).div_ceil(100).max(1),
        }
    }
}

/// How a release replaces another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Old stops, new starts.
    Recreate,
    /// Some at a time: host after host, or on one host instance after instance.
    Rolling {
        /// How many together.
        batch: Batch,
        /// From one batch that passes to the next, milliseconds.
        pause_ms: u64,
    },
    /// New starts beside the old, all traffic at once.
    BlueGreen {
        /// How long after the switch the old side stays at least, milliseconds.
        keep_old_ms: u64,
    },
    /// Traffic in stages.
    Canary(CanaryPolicy),
}

impl Strategy {
    /// The word in `backout.yaml`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Strategy::Recreate => "recreate",
            Strategy::Rolling { .. } => "rolling",
            Strategy::BlueGreen { .. } => "blue_green",
            Strategy::Canary(_) => "canary",
        }
    }
}

/// `strategy.canary`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryPolicy {
    /// Rising weights; the last is 100.
    pub stages: Vec<Stage>,
    /// What happens when a stage never gets enough data.
    pub on_no_data: OnNoData,
}

/// One traffic weight of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Percent to the new side, 1 to 100.
    pub weight: u8,
    /// Left after this long with a healthy verdict, milliseconds.
    pub hold_ms: u64,
    /// Left earlier from here on if the new side is shown to be no worse, milliseconds.
    pub hold_min_ms: u64,
    /// Too little data extends the stage to this, milliseconds.
    pub hold_max_ms: u64,
}

/// `on_no_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNoData {
    /// Stay, and say so loudly.
    Pause,
    /// Go on.
    Promote,
    /// Take it back.
    Rollback,
}

/// What moves traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouterPolicy {
    /// Nothing does.
    None,
    /// The built-in proxy.
    Builtin {
        /// Where it listens.
        listen: SocketAddr,
        /// Time without a sign from the watcher after which traffic returns by itself, milliseconds.
        dead_man_ms: u64,
    },
    /// The script target's `update-traffic`.
    Script,
}

/// `shutdown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// Wait for requests in flight at most this long, milliseconds.
    pub drain_ms: u64,
    /// Between SIGTERM and SIGKILL, milliseconds.
    pub grace_ms: u64,
}

/// `rollback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollbackPolicy {
    /// Whether a failing verdict takes the release back by itself.
    pub automatic: bool,
    /// Failing verdict to healthy again, milliseconds; past it, page again and go on.
    pub deadline_ms: u64,
    /// Past it: stuck, milliseconds.
    pub timeout_ms: u64,
    /// Stable releases whose readiness is kept intact.
    pub keep: u32,
}
