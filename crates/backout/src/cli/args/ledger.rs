//! `backout ledger`.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use clap::{Args, Subcommand};

/// `ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// What is done with it.
    #[command(subcommand)]
    pub command: LedgerCommand,
}

/// What is done with the ledger.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Move the ledger of the state folder into a PostgreSQL database, and verify it there
    #[command(after_help = "Examples:
  backout ledger copy --to postgres://backout@db.example/backout

The password comes from PGPASSWORD or ~/.pgpass; in the address other users of this machine could see it.")]
    Copy(LedgerCopy),
}

/// `ledger copy`.
#[derive(Debug, Args)]
pub struct LedgerCopy {
    /// Address of an empty database: postgres://USER@HOST:PORT/DATABASE
    #[arg(long, value_name = "URL")]
    pub to: SecretText,
}

/// Text that may hold a password; it is never shown, in no complaint about it either.
#[derive(Clone)]
pub struct SecretText(String);

impl SecretText {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}
