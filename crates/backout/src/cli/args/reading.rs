//! Verbs that only read: `status`, `history`, `inspect`, `check`.

use backout_core::model::DeploymentStatus;
use clap::Args;
use jiff::Timestamp;

use crate::cli::values::{self, DeploymentName};

/// `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Show it again whenever it changes
    #[arg(short, long)]
    pub watch: bool,
    /// Probe now instead of showing the last result
    #[arg(long)]
    pub check: bool,
}

/// `history`.
#[derive(Debug, Args)]
pub struct History {
    /// Only rollbacks
    #[arg(long)]
    pub rollbacks: bool,
    /// At most N, newest first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), allow_hyphen_values = true)]
    pub limit: Option<u32>,
    /// Only what began since: '7d ago', 2026-11-20, or a full time
    #[arg(long, value_name = "TIME", value_parser = values::past_time, allow_hyphen_values = true)]
    pub since: Option<Timestamp>,
    /// Only with this status, such as stable or rolled_back
    #[arg(long, value_name = "STATUS", value_parser = values::deployment_status)]
    pub status: Option<DeploymentStatus>,
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// An id, a number such as '#42', or a version
    #[arg(value_name = "ID|#N|NAME", value_parser = values::deployment_name)]
    pub what: DeploymentName,
    /// Also list what happened to its release before and after
    #[arg(long)]
    pub show_history: bool,
}

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Wait until it is healthy
    #[arg(long)]
    pub wait: bool,
    /// Wait at most this long; past it exits 3
    #[arg(long, value_name = "D", value_parser = values::positive_duration_ms, allow_hyphen_values = true, requires = "wait")]
    pub max_wait: Option<u64>,
    /// Ask this address instead of the configured checks
    #[arg(long, value_name = "URL", value_parser = values::endpoint)]
    pub endpoint: Option<String>,
}
