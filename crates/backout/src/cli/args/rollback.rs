//! `rollback`.

use backout_core::ids::{AppName, ServiceName, Version};
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cli::values::{self, RollbackPoint};

/// `rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The app, to be sure that the right file is read
    #[arg(value_name = "APP", value_parser = values::app)]
    pub app: Option<AppName>,
    /// Go back to this version
    #[arg(long, value_name = "V", value_parser = values::version, conflicts_with_all = ["to_revision", "to"])]
    pub version: Option<Version>,
    /// Go back to deployment N
    #[arg(long, alias = "to-version", value_name = "N", value_parser = values::revision, allow_hyphen_values = true, conflicts_with = "to")]
    pub to_revision: Option<u64>,
    /// Go back to deployment N, or to what was live at a time
    #[arg(long, value_name = "N|TIME", value_parser = values::rollback_point, allow_hyphen_values = true)]
    pub to: Option<RollbackPoint>,
    /// Only this service goes back, the others stay what they are; may be repeated
    #[arg(long = "service", value_name = "S", value_parser = values::service)]
    pub services: Vec<ServiceName>,
    /// Why; asked of people in production environments
    #[arg(long, value_name = "TEXT", value_parser = values::reason)]
    pub reason: Option<String>,
    /// Roll back although the current release looks healthy
    #[arg(long)]
    pub force: bool,
    /// Lift one failing safety check by its name; may be repeated
    #[arg(long = "override", value_name = "CHECK", value_parser = PossibleValuesParser::new(values::SAFETY_CHECKS), hide_possible_values = true)]
    pub overrides: Vec<String>,
    /// Skip checks that only advise
    #[arg(long)]
    pub skip_validation: bool,
    /// Time for the work itself; past it the rollback is stuck [default: rollback.timeout]
    #[arg(long, value_name = "D", value_parser = values::positive_duration_ms, allow_hyphen_values = true)]
    pub timeout: Option<u64>,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl Rollback {
    /// Where to, if somewhere is named; the flags exclude each other.
    #[must_use]
    pub fn point(&self) -> Option<RollbackPoint> {
        self.to_revision.map(RollbackPoint::Revision).or(self.to)
    }
}
