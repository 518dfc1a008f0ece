//! What the judge says.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How a release does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Everything that should be known is known, and good.
    Healthy,
    /// Good enough to go on, with something to say; a shared fault holds.
    Warning,
    /// Take it back.
    Failing,
    /// Nothing bad is proven and something is not known yet. Never to be taken for healthy.
    NotEnoughData,
}

/// Why a verdict fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Checks failed in a row, or a process that had been healthy went away.
    HealthCheckFailed,
    /// The new side did not come up.
    StartupFailure,
    /// The comparison with the baseline.
    Analysis,
    /// A fixed threshold.
    Threshold,
    /// Another version runs than the one deployed.
    VersionMismatch,
    /// The new side gets none of the traffic it should get.
    NoTraffic,
}

/// A verdict with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The verdict itself.
    pub level: Level,
    /// Why, if it fails.
    pub cause: Option<Cause>,
    /// One sentence that a tired person understands.
    pub evidence: String,
    /// What is missing, and how much of it.
    pub missing: Option<String>,
    /// Both sides suffer: hold and alert, never roll back for it.
    pub shared_fault: bool,
    /// Everything else worth saying.
    pub warnings: Vec<String>,
    /// The metric that the evidence is about.
    pub metric: Option<String>,
}

impl Verdict {
    /// Whether the release must be taken back.
    pub fn is_failing(&self) -> bool {
        self.level == Level::Failing
    }

    /// Whether a rollout may go on: healthy, or a warning that is not a shared fault.
    pub fn may_go_on(&self) -> bool {
        match self.level {
            Level::Healthy => true,
            Level::Warning => !self.shared_fault,
            Level::Failing | Level::NotEnoughData => false,
        }
    }
}

/// A failure found; the first one stays.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub cause: Cause,
    pub evidence: String,
    pub metric: Option<Cow<'static, str>>,
}
