//! `backout audit`.

mod export;
mod report;
mod trust;
mod verify;

use super::args::{AuditCommand, Global};
use super::session;
use crate::error::CommandError;
use crate::registry::{LEDGER_FILE, OpenLedger, OpenMode};
use crate::state_dir::StateDir;

/// Runs the verb.
pub async fn run(global: &Global, command: &AuditCommand) -> Result<u8, CommandError> {
    match command {
        AuditCommand::Verify(args) => verify::run(global, args).await,
        AuditCommand::Export(args) => export::run(global, args).await,
    }
}

/// The state folder.
fn state(global: &Global) -> Result<StateDir, CommandError> {
    let first = session::state_dirs(global)?.into_iter().next();
    first.ok_or_else(|| CommandError::failed("no state folder is known: set --state-dir"))
}

/// The ledger, for reading. The log is of the whole ledger, so no configuration is needed.
struct Opened {
    ledger: OpenLedger,
    state: StateDir,
    log_was_there: bool,
}

impl Opened {
    async fn open(global: &Global) -> Result<Self, CommandError> {
        let state = state(global)?;
        let log = state.path.join(format!("{LEDGER_FILE}-wal"));
        let log_was_there = fs_err::metadata(log).is_ok_and(|meta| meta.len() > 0);
        let place = session::ledger_place(global, &state)?;
        let ledger = place.open(OpenMode::ReadOnly).await;
        let ledger = ledger.map_err(|error| session::open_error(&error, &state, &place))?;
        Ok(Self { ledger, state, log_was_there })
    }

    /// Whoever closes a ledger last copies its log back. A log that somebody else left is not a reader's business.
    async fn close(self) {
        if self.log_was_there {
            std::mem::forget(self.ledger);
        } else {
            self.ledger.close().await;
        }
    }
}
