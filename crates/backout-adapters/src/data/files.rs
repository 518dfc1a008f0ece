//! Config files below the folder of `backout.yaml`, read and put back byte-exact.

use std::fmt::Display;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use backout_core::model::{ConfigFile, FileKind};
use backout_core::ports::{AdapterError, ConfigFiles, DiskFile};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;

use super::label;
use super::put::{put_file, put_link};
use crate::host::{resolve_inside, sync_dir};

/// One file.
const MAX_FILE_BYTES: u64 = 10 << 20;
/// All files of a release.
const MAX_ALL_BYTES: u64 = 100 << 20;
/// Matches of all globs.
const MAX_FILES: usize = 10_000;

/// Config files on this machine.
#[derive(Debug, Clone)]
pub struct LocalConfigFiles {
    folder: PathBuf,
}

impl LocalConfigFiles {
    /// Files below the folder of `backout.yaml`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn place(&self, path: &str) -> Result<PathBuf, AdapterError> {
        resolve_inside(&self.folder, path).map_err(|e| {
            AdapterError::permanent(format!("failed to use config file `{path}`: {e}"))
        })
    }

    fn read_all(&self, globs: &[String]) -> Result<Vec<DiskFile>, AdapterError> {
        let mut paths = std::collections::BTreeSet::new();
        for glob in globs {
            paths.extend(self.matches(glob)?);
            if paths.len() > MAX_FILES {
                return Err(AdapterError::permanent(format!(
                    "failed to read config files: `{glob}` brings them over {MAX_FILES}"
                ))
                .with_hint("name fewer files under config:"));
            }
        }
        let mut files = Vec::with_capacity(paths.len());
        let mut total = 0;
        for path in paths {
            // Gone since it was listed: as if it had never been there.
            if let Some(file) = self.read_now(&path)? {
                total += file.bytes.len() as u64;
                if total > MAX_ALL_BYTES {
                    return Err(AdapterError::permanent(format!(
                        "failed to read config file `{path}`: all together have more than {MAX_ALL_BYTES} bytes"
                    )));
                }
                files.push(file);
            }
        }
        Ok(files)
    }

    /// Paths that a glob names, relative to the folder.
    fn matches(&self, glob: &str) -> Result<Vec<String>, AdapterError> {
        let bad = |why: &dyn Display| {
            AdapterError::permanent(format!("failed to read config files `{glob}`: {why}"))
        };
        if !glob.contains(['*', '?', '[']) {
            let place = self.place(glob)?;
            return match fs::symlink_metadata(&place) {
                Ok(metadata) if metadata.is_dir() => Err(bad(&"it is a folder")
                    .with_hint(format!("write `{}/*`", glob.trim_end_matches('/')))),
                Ok(_) => Ok(vec![tidy(glob)]),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    Err(bad(&"it does not exist").with_hint("create it, or take it out of config:"))
                }
                Err(e) => Err(bad(&e)),
            };
        }
        let plain =
            |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir);
        if !Path::new(glob).components().all(plain) {
            return Err(bad(&"it leads out of the folder of backout.yaml"));
        }
        let root = self.folder.canonicalize().map_err(|e| bad(&e))?;
        let root_text = root.to_str().ok_or_else(|| bad(&"the folder's name is no UTF-8"))?;
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let pattern = format!("{}/{}", glob::Pattern::escape(root_text), tidy(glob));
        let mut found = Vec::new();
        for path in glob::glob_with(&pattern, options).map_err(|e| bad(&e))? {
            let path = path.map_err(|e| bad(&e))?;
            if fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir()) {
                continue;
            }
            let inside = path.strip_prefix(&root).map_err(|e| bad(&e))?;
            let inside =
                inside.to_str().ok_or_else(|| bad(&format!("the name {inside:?} is no UTF-8")))?;
            found.push(inside.to_owned());
            if found.len() > MAX_FILES {
                return Err(bad(&format!("it matches more than {MAX_FILES} files")));
            }
        }
        Ok(found)
    }

    fn read_now(&self, path: &str) -> Result<Option<DiskFile>, AdapterError> {
        let place = self.place(path)?;
        let failed = |e: &dyn Display| {
            AdapterError::permanent(format!("failed to read config file `{path}`: {e}"))
        };
        let metadata = match fs::symlink_metadata(&place) {
            Ok(metadata) => metadata,
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(e) => return Err(failed(&e)),
        };
        let (kind, bytes, metadata) = if metadata.is_symlink() {
            let target = fs::read_link(&place).map_err(|e| failed(&e))?;
            let target =
                target.to_str().ok_or_else(|| failed(&"its link text is no UTF-8"))?.to_owned();
            (FileKind::Link { target }, Vec::new(), metadata)
        } else if metadata.is_file() {
            // What is described is what was read, also if the name is replaced meanwhile.
            let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
            let file = fs::OpenOptions::new()
                .read(true)
                .custom_flags(no_follow)
                .open(&place)
                .map_err(|e| failed(&e))?;
            let metadata = file.metadata().map_err(|e| failed(&e))?;
            let mut bytes = Vec::new();
            file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
            if bytes.len() as u64 > MAX_FILE_BYTES {
                return Err(failed(&format!("it has more than {MAX_FILE_BYTES} bytes")));
            }
            (FileKind::File { blob: String::new(), size: bytes.len() as u64 }, bytes, metadata)
        } else {
            return Err(failed(&"it is neither a file nor a link"));
        };
        let meta = ConfigFile {
            path: tidy(path),
            kind,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            selinux: label::read(&place),
            secrets: Vec::new(),
        };
        Ok(Some(DiskFile { meta, bytes }))
    }

    fn write_now(&self, file: &DiskFile) -> Result<(), AdapterError> {
        let path = &file.meta.path;
        let failed = |e: io::Error| {
            let message = format!("failed to put config file `{path}` back: {e}");
            match e.kind() {
                io::ErrorKind::PermissionDenied => AdapterError::permanent(message)
                    .with_hint("give this user the right to write there, or run as root"),
                io::ErrorKind::IsADirectory
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::DirectoryNotEmpty => {
                    AdapterError::permanent(message).with_hint("a folder stands in the way")
                }
                _ => AdapterError::transient(message),
            }
        };
        let place = self.place(path)?;
        if self.read_now(path).ok().flatten().is_some_and(|now| same(&now, file)) {
            return Ok(());
        }
        let folder = place.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(failed)?;
        match &file.meta.kind {
            FileKind::File { .. } => put_file(folder, &place, file).map_err(failed)?,
            FileKind::Link { target } => {
                put_link(folder, &place, target, &file.meta).map_err(failed)?
            }
        }
        sync_dir(folder).map_err(failed)
    }

    fn remove_now(&self, path: &str) -> Result<(), AdapterError> {
        let place = self.place(path)?;
        let failed = |e: io::Error| {
            let message = format!("failed to remove config file `{path}`: {e}");
            match e.kind() {
                io::ErrorKind::IsADirectory | io::ErrorKind::PermissionDenied => {
                    AdapterError::permanent(message)
                }
                _ => AdapterError::transient(message),
            }
        };
        match fs::remove_file(&place) {
            Ok(()) => sync_dir(place.parent().unwrap_or(&self.folder)).map_err(failed),
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Ok(())
            }
            Err(e) => Err(failed(e)),
        }
    }
}

/// The path as it is recorded: without `./`.
fn tidy(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

fn same(now: &DiskFile, wanted: &DiskFile) -> bool {
    let kind = match (&now.meta.kind, &wanted.meta.kind) {
        (FileKind::File { .. }, FileKind::File { .. }) => {
            now.bytes == wanted.bytes && now.meta.mode == wanted.meta.mode & 0o7777
        }
        (FileKind::Link { target: now }, FileKind::Link { target: wanted }) => now == wanted,
        _ => false,
    };
    let label = wanted.meta.selinux.is_none() || now.meta.selinux == wanted.meta.selinux;
    kind && label && (now.meta.uid, now.meta.gid) == (wanted.meta.uid, wanted.meta.gid)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AdapterError> + Send + 'static,
) -> Result<T, AdapterError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(AdapterError::unknown(format!("failed to finish work on config files: {e}")))
    })
}

#[async_trait]
impl ConfigFiles for LocalConfigFiles {
    async fn read(&self, globs: &[String]) -> Result<Vec<DiskFile>, AdapterError> {
        let (this, globs) = (self.clone(), globs.to_vec());
        blocking(move || this.read_all(&globs)).await
    }

    async fn read_one(&self, path: &str) -> Result<Option<DiskFile>, AdapterError> {
        let (this, path) = (self.clone(), path.to_owned());
        blocking(move || this.read_now(&path)).await
    }

    async fn write(&self, file: &DiskFile) -> Result<(), AdapterError> {
        let (this, file) = (self.clone(), file.clone());
        blocking(move || this.write_now(&file)).await
    }

    async fn remove(&self, path: &str) -> Result<(), AdapterError> {
        let (this, path) = (self.clone(), path.to_owned());
        blocking(move || this.remove_now(&path)).await
    }
}
