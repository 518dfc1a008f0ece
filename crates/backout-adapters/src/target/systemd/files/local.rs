//! Files of this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ports::AdapterError;

use super::{Definition, Files, Held, Layout, LinkAfter, Point, Seen, Turn};
use crate::host::{FileLock, Prepared, read_bounded, remove_file_if_there, sync_dir, write_atomic};
use crate::target::systemd::definition::own_files;
use crate::target::systemd::place::{Place, no_link, writing};
use crate::target::systemd::{blocking, folders, link};

const NOTE_BYTES: u64 = 64 << 10;
const DEFINITION_BYTES: u64 = 1 << 20;

/// This machine's.
pub(in super::super) struct LocalFiles {
    /// The folder of `backout.yaml`.
    pub folder: PathBuf,
    /// The unit's name as it is written there.
    pub unit: String,
    /// Where the manager's files are seen from here, if elsewhere than it says.
    pub root: Option<PathBuf>,
}

impl LocalFiles {
    /// A path of the manager's as it is reached from here.
    fn seen(&self, path: &str) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path.trim_start_matches('/')),
            None => PathBuf::from(path),
        }
    }
}

#[async_trait]
impl Files for LocalFiles {
    fn is_known(&self, place: &Place) -> bool {
        place.lock().exists()
    }

    async fn enter(
        &self,
        place: &Place,
        _turn: &Turn,
        patience: Duration,
    ) -> Result<Held, AdapterError> {
        std::fs::create_dir_all(place.parent()).map_err(|e| writing(&e))?;
        let lock = FileLock::take(&place.lock(), patience).await.map_err(|e| writing(&e))?;
        let lock = lock.ok_or_else(|| {
            AdapterError::transient(format!(
                "failed to change {}: another process is at it",
                place.name
            ))
        })?;
        Ok(Held { _lock: Some(lock) })
    }

    async fn look(&self, place: &Place, pid: u32) -> Result<Seen, AdapterError> {
        let note = read_bounded(&place.note, NOTE_BYTES).map_err(|e| {
            AdapterError::permanent(format!("failed to read `{}`: {e}", place.note.display()))
        })?;
        Ok(Seen {
            note,
            link: link::target(&place.link).map_err(|e| no_link(&e)),
            program: program(pid),
        })
    }

    async fn begin(&self, place: &Place, point: Point, _turn: &Turn) -> Result<(), AdapterError> {
        let place = place.clone();
        blocking(move || {
            // Both are durable before either is there, and one sync of the folder keeps all three names in their order:
            // the link never leads to what no note tells of.
            let write = || {
                let note = Prepared::new(&place.note, &point.note, 0o644)?;
                let variables = Prepared::new(&place.variables, point.variables.as_bytes(), 0o644)?;
                note.put()?;
                variables.put()
            };
            write().map_err(|e| writing(&e))?;
            if let Some(to) = &point.to {
                link::lead(&place.link, to).map_err(|e| no_link(&e))?;
            }
            sync_dir(place.parent()).map_err(|e| writing(&e))
        })
        .await
    }

    async fn note(&self, place: &Place, note: Vec<u8>, _turn: &Turn) -> Result<(), AdapterError> {
        let path = place.note.clone();
        // Not secret, and of use to whoever looks at the folder.
        blocking(move || write_atomic(&path, &note, 0o644).map_err(|e| writing(&e))).await
    }

    async fn leave(
        &self,
        place: &Place,
        after: &LinkAfter,
        _turn: &Turn,
    ) -> Result<(), AdapterError> {
        match after {
            LinkAfter::Stays => {}
            LinkAfter::Back(to) => link::switch(&place.link, to).map_err(|e| writing(&e))?,
            LinkAfter::Removed => link::remove_link(&place.link)
                .and_then(|()| sync_dir(place.parent()))
                .map_err(|e| writing(&e))?,
        }
        remove_file_if_there(&place.variables).map_err(|e| writing(&e))?;
        remove_file_if_there(&place.note).map_err(|e| writing(&e))
    }

    async fn forget(&self, place: &Place, _turn: &Turn) -> Result<(), AdapterError> {
        remove_file_if_there(&place.note)
            .and_then(|()| remove_file_if_there(&place.lock()))
            .map_err(|e| writing(&e))
    }

    async fn definitions(&self, paths: &[String]) -> Result<Vec<Option<Definition>>, AdapterError> {
        let own: Vec<(u64, u64)> = own_files(&self.folder, &self.unit)
            .iter()
            .filter_map(|path| same_as(&self.folder.join(path)))
            .collect();
        let mut found = Vec::new();
        for path in paths {
            let seen = self.seen(path);
            let bytes = read_bounded(&seen, DEFINITION_BYTES).map_err(|e| {
                AdapterError::permanent(format!("failed to read the unit file `{path}`: {e}"))
            })?;
            let own = same_as(&seen).is_some_and(|real| own.contains(&real));
            found.push(bytes.map(|bytes| Definition { bytes, own }));
        }
        Ok(found)
    }

    async fn is_whole(&self, layout: &Layout) -> Result<bool, AdapterError> {
        let layout = layout.clone();
        blocking(move || Ok(folders::is_whole(&layout.kept, &layout.folder))).await
    }

    async fn lay_out(&self, layout: &Layout, _turn: &Turn) -> Result<(), AdapterError> {
        folders::lay_out(layout).await
    }

    async fn has_folder(&self, folder: &Path) -> Result<bool, AdapterError> {
        Ok(folder.is_dir())
    }

    async fn prune(
        &self,
        places: &[Place],
        keep: &[String],
        _turn: &Turn,
    ) -> Result<(), AdapterError> {
        let Some(place) = places.first() else { return Ok(()) };
        let links: Vec<PathBuf> = places.iter().map(|place| place.link.clone()).collect();
        folders::prune(&place.releases, &links, keep).await
    }
}

/// What tells that two paths lead to the same file, through links and from wherever they are seen.
fn same_as(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The program of a process, where it can be told.
fn program(pid: u32) -> Option<PathBuf> {
    if pid == 0 {
        return None;
    }
    std::fs::read_link(Path::new("/proc").join(pid.to_string()).join("exe")).ok()
}
