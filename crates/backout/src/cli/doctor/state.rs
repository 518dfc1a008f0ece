//! The state folder, its disk, and the ledger in it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access as Rights, access};

use super::Item;
use crate::cli::args::Global;
use crate::cli::reading::Reader;
use crate::cli::session;
use crate::error::CommandError;
use crate::state_dir::StateDir;

/// Less than this is too little for a ledger and its way back.
pub const FREE_BYTES_MIN: u64 = 64 << 20;

/// Ours, private, writable, and with room.
pub fn folder(state: &StateDir) -> Vec<Item> {
    let path = &state.path;
    let shown = format!("{} ({})", path.display(), state.rule);
    match fs_err::metadata(path) {
        Ok(meta) => vec![existing(path, &shown, &meta), disk(path)],
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = nearest_existing(path);
            vec![missing(&parent, &shown), disk(&parent)]
        }
        Err(error) => vec![Item::error("state_folder", error.to_string())],
    }
}

fn existing(path: &Path, shown: &str, meta: &std::fs::Metadata) -> Item {
    let name = "state_folder";
    let us = rustix::process::geteuid().as_raw();
    let mode = meta.mode() & 0o777;
    if !meta.is_dir() {
        return Item::error(name, format!("{shown} is not a folder"))
            .fix("name another with --state-dir");
    }
    if meta.uid() != us {
        let message = format!("{shown} belongs to user {}, we are user {us}", meta.uid());
        return Item::error(name, message)
            .fix("run as its owner, or name another with --state-dir");
    }
    if mode & 0o077 != 0 {
        let status = if mode & 0o022 != 0 { Item::error } else { Item::warning };
        let what =
            if mode & 0o022 != 0 { "others may write into it" } else { "others may look into it" };
        return status(name, format!("{shown} has mode {mode:o}: {what}"))
            .fix(format!("chmod 700 {}", path.display()));
    }
    if access(path, Rights::WRITE_OK | Rights::EXEC_OK).is_err() {
        return Item::error(name, format!("{shown} can't be written"))
            .fix(format!("chmod 700 {}", path.display()));
    }
    Item::pass(name, format!("{shown} is ours alone and writable"))
}

fn missing(parent: &Path, shown: &str) -> Item {
    let name = "state_folder";
    if access(parent, Rights::WRITE_OK | Rights::EXEC_OK).is_err() {
        let message =
            format!("{shown} is not there, and {} can't be written to make it", parent.display());
        return Item::error(name, message).fix("name another with --state-dir");
    }
    Item::pass(name, format!("{shown} is made by the first deploy"))
}

fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors().find(|parent| parent.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn disk(path: &Path) -> Item {
    let name = "disk_space";
    let Some(free) = free_bytes(path) else {
        return Item::warning(name, format!("the space left in {} can't be told", path.display()));
    };
    let shown = format!("{} MiB free in {}", free >> 20, path.display());
    if free < FREE_BYTES_MIN {
        let message = format!("{shown}, at least {} MiB are needed", FREE_BYTES_MIN >> 20);
        return Item::error(name, message).fix("free some space");
    }
    Item::pass(name, shown)
}

/// What we may still write there.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let volume = rustix::fs::statvfs(nearest_existing(path)).ok()?;
    Some(volume.f_bavail.saturating_mul(volume.f_frsize))
}

/// There, readable, of a format that this version knows; or which other folder has it.
pub async fn ledger(global: &Global, reader: &Reader) -> Result<Vec<Item>, CommandError> {
    let name = "ledger";
    let Some(ledger) = reader.ledger() else {
        let unknown = reader.not_known(global).await;
        let elsewhere: Vec<&String> =
            unknown.hints.iter().filter(|hint| hint.contains("--state-dir")).collect();
        return Ok(vec![match elsewhere.first() {
            Some(hint) => {
                Item::warning(name, format!("none in {}", reader.ledger_place)).fix((*hint).clone())
            }
            None => Item::pass(
                name,
                format!("none in {} yet: the first deploy makes it", reader.ledger_place),
            ),
        }]);
    };
    let id = match ledger.id().await {
        Ok(id) => id,
        Err(error) => return Ok(vec![Item::error(name, error.to_string())]),
    };
    let known =
        ledger.environments(None).await.map_err(|error| session::ledger_error(&error))?.len();
    let plural = if known == 1 { "environment" } else { "environments" };
    let mut items = vec![Item::pass(
        name,
        format!("{id} in {} is readable, with {known} {plural}", reader.ledger_place),
    )];
    let careless =
        reader.careless_settings().await.map_err(|error| session::ledger_error(&error))?;
    if !careless.is_empty() {
        let message = format!(
            "{} is off in {}: when that machine fails, what was written down as done may be gone",
            careless.join(" and "),
            reader.ledger_place
        );
        let on: Vec<String> =
            careless.iter().map(|setting| format!("ALTER SYSTEM SET {setting} = on")).collect();
        items.push(Item::warning("ledger_durability", message).fix(on.join("; ")));
    }
    Ok(items)
}
