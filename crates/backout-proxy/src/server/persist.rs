//! Routes on disk, so that they survive the process.
//!
//! `routes.json` is replaced as a whole (write, sync, rename, sync the folder). `deadlines.json` holds the
//! renewals of dead-men in between: it is written each second without syncing, since it only has to survive
//! the process; after a reboot every dead-man is due anyway.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::sticky::Key;
use crate::{
    folder::Folder,
    wire::{DeadManFired, Owner, SideName, SideSpec, TripArm, TripFired, Weights},
};

const FORMAT: u32 = 1;
const ROUTES: &str = "routes.json";
const DEADLINES: &str = "deadlines.json";
/// More is no file of ours.
const BYTES_MAX: u64 = 64 << 20;

/// Why the stored routes can't be read.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The system refuses.
    #[error("failed to read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Written by a newer version; the file is left as it is.
    #[error(
        "failed to read {path}: format {format} is newer than this version knows ({FORMAT}); start the newer version"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// Damaged; the file was moved aside.
    #[error(
        "failed to read {path}: {message}; the file is kept as {kept}; start again to go on without routes, \
         and `backout recover` or the next deploy puts them back",
        kept = kept.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        kept: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// An armed dead-man.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredDeadMan {
    pub(crate) stable: SideName,
    pub(crate) after_ms: u64,
    /// By the boot-time clock.
    pub(crate) deadline_ms: u64,
    pub(crate) boot_id: String,
}

/// An armed trip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredTrip {
    pub(crate) arm: TripArm,
    /// The deployments of the side on trial and of the stable one.
    pub(crate) deployments: [u64; 2],
}

/// How many tests were begun of a deployment: each has a fixed part of its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tests {
    pub(crate) deployment: u64,
    pub(crate) begun: u32,
}

/// A route as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredRoute {
    pub(crate) route: String,
    pub(crate) listen: SocketAddr,
    pub(crate) bound: Option<SocketAddr>,
    pub(crate) owner: Owner,
    pub(crate) epoch: u64,
    pub(crate) sides: BTreeMap<SideName, SideSpec>,
    pub(crate) weights: Weights,
    pub(crate) response_timeout_ms: u64,
    /// Clients stay on their side; this signs what tells them apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sticky: Option<Key>,
    pub(crate) dead_man: Option<StoredDeadMan>,
    pub(crate) dead_man_fired: Option<DeadManFired>,
    #[serde(default)]
    pub(crate) trip: Option<StoredTrip>,
    #[serde(default)]
    pub(crate) trip_fired: Option<TripFired>,
    #[serde(default)]
    pub(crate) tests: Option<Tests>,
}

#[derive(Serialize, Deserialize)]
struct Routes {
    format: u32,
    routes: Vec<StoredRoute>,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct Deadlines {
    format: u32,
    boot_id: String,
    deadlines_ms: BTreeMap<String, u64>,
}

/// Reads the routes; none where there is no file.
pub(crate) fn load(dir: &Path, boot_id: &str) -> Result<Vec<StoredRoute>, LoadError> {
    let path = dir.join(ROUTES);
    let text = match read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(LoadError::Io { path, source }),
    };
    let parsed = serde_json::from_slice::<FormatOnly>(&text).and_then(|head| match head.format {
        FORMAT => serde_json::from_slice::<Routes>(&text).map(Ok),
        newer => Ok(Err(newer)),
    });
    let mut routes = match parsed {
        Ok(Ok(routes)) => routes.routes,
        Ok(Err(format)) => return Err(LoadError::Newer { path, format }),
        Err(error) => return Err(set_aside(path, &error.to_string())),
    };
    let renewed = renewals(dir, boot_id);
    for route in &mut routes {
        let Some(dead_man) = &mut route.dead_man else { continue };
        if dead_man.boot_id != boot_id {
            boot_id.clone_into(&mut dead_man.boot_id);
            dead_man.deadline_ms = 0;
        } else if let Some(deadline_ms) = renewed.get(&route.route) {
            dead_man.deadline_ms = dead_man.deadline_ms.max(*deadline_ms);
        }
    }
    Ok(routes)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if fs_err::metadata(path)?.len() > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too large"));
    }
    fs_err::read(path)
}

fn set_aside(path: PathBuf, message: &str) -> LoadError {
    let kept =
        path.with_file_name(format!("{ROUTES}.damaged-{}", Timestamp::now().as_millisecond()));
    match fs_err::rename(&path, &kept) {
        Ok(()) => LoadError::Damaged { path, kept, message: message.to_owned() },
        Err(source) => LoadError::Io { path, source },
    }
}

/// Deadlines renewed since the routes were written; a damaged file, or one of another boot, says nothing.
fn renewals(dir: &Path, boot_id: &str) -> BTreeMap<String, u64> {
    let text = read(&dir.join(DEADLINES)).unwrap_or_default();
    match serde_json::from_slice::<Deadlines>(&text) {
        Ok(known) if known.format == FORMAT && known.boot_id == boot_id => known.deadlines_ms,
        _ => BTreeMap::new(),
    }
}

/// Replaces the stored routes durably.
pub(crate) fn save(dir: &Path, routes: Vec<StoredRoute>) -> io::Result<()> {
    // In one piece: a write for each word of it would keep a processor from the requests that come just now.
    let text = serde_json::to_vec_pretty(&Routes { format: FORMAT, routes })?;
    let mut file = tempfile::Builder::new().prefix(".routes-").tempfile_in(dir)?;
    file.write_all(&text)?;
    file.as_file().sync_all()?;
    file.persist(dir.join(ROUTES)).map_err(|error| error.error)?;
    // The routes hold newer deadlines than the renewals before them, perhaps shorter ones.
    match fs_err::remove_file(dir.join(DEADLINES)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Folder::open(dir)?.sync()
}

/// Notes renewed deadlines.
pub(crate) fn save_deadlines(
    dir: &Path,
    boot_id: &str,
    deadlines_ms: BTreeMap<String, u64>,
) -> io::Result<()> {
    let deadlines = Deadlines { format: FORMAT, boot_id: boot_id.to_owned(), deadlines_ms };
    let text = serde_json::to_vec(&deadlines)?;
    let mut file = tempfile::Builder::new().prefix(".deadlines-").tempfile_in(dir)?;
    file.write_all(&text)?;
    file.persist(dir.join(DEADLINES)).map_err(|error| error.error)?;
    Ok(())
}
