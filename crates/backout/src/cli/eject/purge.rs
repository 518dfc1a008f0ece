//! `--purge`: the history and all copies go too.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use backout_engine::PreparedEject;

use crate::cli::session::{self, Session};
use crate::error::CommandError;
use crate::registry::LEDGER_FILE;

/// What stands in a state folder beside the ledger.
const FOLDERS: [&str; 8] =
    ["artifacts", "images", "incidents", "compose", "scripts", "slots", "proxy", "snapshots"];

const PROXY_PATIENCE: Duration = Duration::from_secs(20);

/// Refuses where something else needs what would go.
pub(super) async fn refuse(
    session: &Session,
    prepared: &PreparedEject,
) -> Result<(), CommandError> {
    if !prepared.marked.is_empty() {
        return Err(CommandError::refused(format!(
            "{} runs with the mark of this ledger, or from its copies: without them a later ledger would refuse it",
            prepared.marked.join(", ")
        ))
        .hint("eject without --purge; once it was started anew without Backout, `backout eject --purge` removes the rest"));
    }
    let known = session.cx.ledger.environments(None).await;
    let known = known.map_err(|error| session::ledger_error(&error))?;
    let others: Vec<String> = known
        .iter()
        .filter(|one| one.key != session.cx.key && (one.live.is_some() || !one.slots.is_empty()))
        .map(|one| one.key.to_string())
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(CommandError::refused(format!(
        "the history in {} is needed by {}",
        session.state.path.display(),
        others.join(", ")
    ))
    .hint("eject those first, or leave --purge out"))
}

/// A proxy without routes ends by itself within a few seconds; until then its folder is in use.
async fn proxy_gone(folder: &Path) {
    let answers = || {
        let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|path| UnixStream::connect(path).is_ok())
    };
    let end = std::time::Instant::now() + PROXY_PATIENCE;
    while answers() && std::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Removes the ledger file and everything of ours beside it; a folder that holds other things stays.
pub(super) async fn purge(session: Session) -> Result<(), CommandError> {
    let state = session.state.path.clone();
    drop(session);
    session::close_ledgers().await;
    let failed = |error: std::io::Error| {
        CommandError::failed(format!("failed to remove what is left: {error}"))
            .hint(format!("remove {} by hand", state.display()))
    };
    proxy_gone(&state.join("proxy")).await;
    for name in FOLDERS {
        match fs_err::remove_dir_all(state.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
    }
    for entry in fs_err::read_dir(&state).map_err(failed)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name.starts_with(LEDGER_FILE) || name == "reserve" || name.ends_with(".lock");
        if ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            fs_err::remove_file(entry.path()).map_err(failed)?;
        }
    }
    let _ = fs_err::remove_dir(&state);
    Ok(())
}
