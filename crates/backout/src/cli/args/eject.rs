//! The flags of `eject`.

use clap::Args;

/// `eject`.
#[derive(Debug, Args)]
pub struct Eject {
    /// Remove the ledger and the copies in the state folder too, where no other environment needs them
    #[arg(long)]
    pub purge: bool,
    /// Show what goes and what stays, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}
