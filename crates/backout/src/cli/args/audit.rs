//! `audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// What is asked.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What is asked of the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that the whole history is as it was written
    #[command(after_help = "Examples:
  backout audit verify
  backout audit verify --checkpoint /mnt/elsewhere/backout.audit.ndjson
  backout audit verify --export backout.audit.ndjson --key 'backout/led_0123+9a8b7c6d+AX…'

The log is that of the whole ledger, whatever app or environment. Exits 0 if all is as it was written, 1 if
anything was changed, removed, added or put back (what, is said), or if the ledger or a given file can't be
trusted, 2 if a given file can't be opened.")]
    Verify(AuditVerify),
    /// Write the log with a signed checkpoint, to be kept elsewhere
    #[command(after_help = "Examples:
  backout audit export --to /mnt/elsewhere/
  backout audit export --to backout.audit.ndjson --format json

Checks the ledger first, and signs nothing that does not verify (exit 1). The key is made at first use, in the
state folder. Whoever keeps the file and the public key can tell later whether the history was changed, or an
older ledger was put back.")]
    Export(AuditExport),
}

/// `audit verify`.
#[derive(Debug, Args)]
pub struct AuditVerify {
    /// A checkpoint or an export that was kept elsewhere; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "export")]
    pub checkpoint: Vec<PathBuf>,
    /// Check this export alone, without a ledger
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// A public key to trust, or a file with some, besides those of the state folder; may be repeated
    #[arg(long, value_name = "KEY|FILE")]
    pub key: Vec<String>,
}

/// `audit export`.
#[derive(Debug, Args)]
pub struct AuditExport {
    /// The file, or a folder that gets one named after ledger and size
    #[arg(long, value_name = "FILE|DIR")]
    pub to: PathBuf,
}
