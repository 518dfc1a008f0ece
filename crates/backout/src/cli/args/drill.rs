//! The flags of `drill`.

use backout_core::ids::Version;
use clap::Args;

use crate::cli::values::{self, RollbackPoint};

/// `drill`.
#[derive(Debug, Args)]
#[group(id = "drilled", multiple = false)]
pub struct Drill {
    /// Rehearse going back to the newest deployment of this version
    #[arg(long, value_name = "V", value_parser = values::version, group = "drilled")]
    pub version: Option<Version>,
    /// Rehearse going back to deployment N
    #[arg(long, value_name = "N", alias = "to-version", value_parser = values::revision, group = "drilled")]
    pub to_revision: Option<u64>,
    /// Rehearse going back to what was live then, or to deployment N
    #[arg(long, value_name = "TIME|N", value_parser = values::rollback_point, group = "drilled")]
    pub to: Option<RollbackPoint>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = values::reason)]
    pub reason: Option<String>,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
}
