//! Other hosts need a history that whoever deploys next has too.

use super::args::Global;
use super::session;
use crate::config::Loaded;
use crate::error::CommandError;
use crate::registry::{DATABASE_VARIABLE, LedgerPlace};
use crate::state_dir::StateDir;

/// Refuses to begin a history of other hosts in a file of this machine, unless that is wanted.
///
/// Where it has been begun it goes on: nobody looks for a flag when something is to be taken back.
pub async fn require(
    global: &Global,
    loaded: &Loaded,
    state: &StateDir,
    place: &LedgerPlace,
) -> Result<(), CommandError> {
    let settings = &loaded.settings;
    let Some(remote) = settings.hosts.iter().find(|host| !host.is_local()) else { return Ok(()) };
    let in_folder = matches!(place, LedgerPlace::Folder(_));
    if !in_folder || global.local_ledger || session::knows(state, loaded).await {
        return Ok(());
    }
    Err(CommandError::refused(format!(
        "{} runs on `{remote}`, and its history would be on this machine only: whoever deploys from elsewhere would not know of it",
        settings.key
    ))
    .hint(format!("name a PostgreSQL database in {DATABASE_VARIABLE}: `backout ledger copy --to URL` moves what is there"))
    .hint("or say with --local-ledger that all deploys come from this machine"))
}
