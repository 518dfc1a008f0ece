//! Files and folders copied by content hash into the state folder.
//!
//! `artifacts/<hex>/` is one copy: `content/<name>` and `copy.json` with its name. It is made beside its place
//! and renamed into it, so that it is there whole or not at all.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use backout_core::ports::{AdapterError, ArtifactDigest, ArtifactStore, StepCx};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::tree::{self, TreeError};
use crate::host::{
    FileLock, create_private_dirs, read_bounded, resolve_inside, sync_dir, write_atomic,
};

const FORMAT: u32 = 1;
const LOCK_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// What is known of a copy beside its bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    format: u32,
    name: String,
    path: String,
}

/// Copies in the state folder of what `backout.yaml` names.
#[derive(Debug, Clone)]
pub struct FileArtifacts {
    folder: PathBuf,
    store: PathBuf,
}

impl FileArtifacts {
    /// Artifacts of the `backout.yaml` in `folder`, kept in `state_dir`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, state_dir: &Path) -> Self {
        Self { folder: folder.into(), store: state_dir.join("artifacts") }
    }

    /// Where the copy with this digest lies: the file, or the folder, under its own name.
    ///
    /// # Errors
    /// Permanent if there is no such copy.
    pub fn path_of(&self, digest: &str) -> Result<PathBuf, AdapterError> {
        let home = self.home(digest)?;
        let label = read_label(&home)?;
        Ok(home.join("content").join(label.name))
    }

    /// Copies the kept bytes of `digest` to `to`, proving them on the way. `to` must not exist.
    ///
    /// # Errors
    /// Permanent if the kept copy is damaged.
    pub fn copy_to(&self, digest: &str, to: &Path) -> Result<(), AdapterError> {
        let kept = self.path_of(digest)?;
        let name = kept.file_name().unwrap_or_default().to_owned();
        let found =
            tree::walk(&kept, &name, Some(to)).map_err(|e| tree_error("copy", digest, &e))?;
        if found == digest { Ok(()) } else { Err(damaged(digest)) }
    }

    fn home(&self, digest: &str) -> Result<PathBuf, AdapterError> {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return Err(AdapterError::permanent(format!(
                "failed to find a copy: `{digest}` is no digest of an artifact"
            )));
        }
        Ok(self.store.join(hex))
    }

    /// The thing itself and its name. A link is followed once, if it stays inside the folder.
    fn source(&self, path: &str) -> Result<(PathBuf, std::ffi::OsString), AdapterError> {
        let failed = |e: &dyn std::fmt::Display| {
            AdapterError::permanent(format!("failed to read artifact `{path}`: {e}"))
                .with_hint("artifacts are files or folders below the folder of backout.yaml")
        };
        let written = resolve_inside(&self.folder, path).map_err(|e| failed(&e))?;
        let name = written.file_name().unwrap_or(OsStr::new("root")).to_owned();
        if !written.is_symlink() {
            return Ok((written, name));
        }
        let root = self.folder.canonicalize().map_err(|e| failed(&e))?;
        let real = written.canonicalize().map_err(|e| failed(&e))?;
        if !real.starts_with(&root) {
            return Err(failed(&"it is a symbolic link that leads out of the folder"));
        }
        Ok((real, name))
    }

    fn digest_now(&self, path: &str) -> Result<ArtifactDigest, AdapterError> {
        let (source, name) = self.source(path)?;
        tree::walk(&source, &name, None).map_err(|e| tree_error("read", path, &e))
    }

    fn pin_now(&self, path: &str, digest: &str) -> Result<(), AdapterError> {
        let home = self.home(digest)?;
        if home.exists() && self.verify_now(digest).is_ok() {
            return Ok(());
        }
        let failed = |e: io::Error| {
            AdapterError::transient(format!("failed to keep a copy of artifact `{path}`: {e}"))
        };
        let (source, name) = self.source(path)?;
        let name_text = name.to_str().ok_or_else(|| {
            AdapterError::permanent(format!(
                "failed to keep a copy of artifact `{path}`: its name is no UTF-8"
            ))
        })?;
        create_private_dirs(&self.store).map_err(failed)?;
        let temporary =
            tempfile::Builder::new().prefix(".new-").tempdir_in(&self.store).map_err(failed)?;
        let content = temporary.path().join("content");
        create_private_dirs(&content).map_err(failed)?;
        let found = tree::walk(&source, &name, Some(&content.join(&name)))
            .map_err(|e| tree_error("copy", path, &e))?;
        if found != digest {
            return Err(AdapterError::permanent(format!(
                "failed to keep a copy of artifact `{path}`: its content has changed since it was planned"
            ))
            .with_hint("do not write to it while a deploy runs; deploy again"));
        }
        let label = Label { format: FORMAT, name: name_text.to_owned(), path: path.to_owned() };
        let label = serde_json::to_vec(&label).map_err(|e| failed(e.into()))?;
        write_atomic(&temporary.path().join("copy.json"), &label, 0o600).map_err(failed)?;
        sync_dir(&content).and_then(|()| sync_dir(temporary.path())).map_err(failed)?;
        // What is there and did not prove whole above is replaced.
        tree::remove(&home).map_err(failed)?;
        match fs::rename(temporary.path(), &home) {
            Ok(()) => {
                let _ = temporary.keep();
            }
            // Another process was faster with the same bytes.
            Err(_) if self.verify_now(digest).is_ok() => {}
            Err(e) => return Err(failed(e)),
        }
        sync_dir(&self.store).map_err(failed)
    }

    fn verify_now(&self, digest: &str) -> Result<(), AdapterError> {
        let kept = self.path_of(digest)?;
        let name = kept.file_name().unwrap_or_default();
        match tree::walk(&kept, name, None) {
            Ok(found) if found == digest => Ok(()),
            Ok(_) | Err(TreeError::Missing(_) | TreeError::Special(_)) => Err(damaged(digest)),
            Err(e) => Err(tree_error("verify", digest, &e)),
        }
    }

    fn prune_now(&self, keep: &[ArtifactDigest]) -> Result<Vec<ArtifactDigest>, AdapterError> {
        let failed =
            |e: io::Error| AdapterError::transient(format!("failed to prune artifact copies: {e}"));
        let entries = match fs::read_dir(&self.store) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut removed = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str() else { continue };
            let digest = format!("sha256:{name}");
            // Only what we made: folders named by a digest.
            if self.home(&digest).is_err() || keep.contains(&digest) {
                continue;
            }
            // Renamed first, so that a kill in between leaves no half copy under a digest.
            let going = self.store.join(format!(".old-{name}"));
            tree::remove(&going).map_err(failed)?;
            fs::rename(self.store.join(name), &going).map_err(failed)?;
            tree::remove(&going).map_err(failed)?;
            removed.push(digest);
        }
        self.sweep().map_err(failed)?;
        removed.sort();
        Ok(removed)
    }

    /// Removes what was begun or half removed by a process that is gone.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.store)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_str().is_some_and(|n| n.starts_with(".new-") || n.starts_with(".old-")) {
                tree::remove(&entry.path())?;
            }
        }
        sync_dir(&self.store)
    }

    /// Pins and prunes exclude each other, also between processes.
    async fn locked(&self) -> Result<FileLock, AdapterError> {
        let failed = |e: io::Error| {
            AdapterError::transient(format!("failed to lock the artifact store: {e}"))
        };
        create_private_dirs(&self.store).map_err(failed)?;
        FileLock::take(&self.store.join(".lock"), LOCK_PATIENCE).await.map_err(failed)?.ok_or_else(
            || {
                AdapterError::transient(
                    "failed to lock the artifact store: another process copies or prunes",
                )
            },
        )
    }
}

fn read_label(home: &Path) -> Result<Label, AdapterError> {
    let missing = |why: String| {
        AdapterError::permanent(format!("failed to find the kept copy of an artifact: {why}"))
            .with_hint("the release can't be started again unless the same bytes are deployed anew")
    };
    let text = read_bounded(&home.join("copy.json"), 64 << 10)
        .map_err(|e| missing(e.to_string()))?
        .ok_or_else(|| missing(format!("`{}` is missing", home.display())))?;
    let label: Label = serde_json::from_slice(&text)
        .map_err(|e| missing(format!("its label can't be read: {e}")))?;
    let one_name =
        Path::new(&label.name).components().count() == 1 && label.name != ".." && label.name != ".";
    if label.format != FORMAT || !one_name {
        return Err(missing(format!("its label has format {} or a bad name", label.format)));
    }
    Ok(label)
}

fn damaged(digest: &str) -> AdapterError {
    AdapterError::permanent(format!("failed to verify the kept copy {digest}: its bytes are no longer those that were kept"))
        .with_hint("look for what writes to the state folder; deploying the same bytes again replaces the copy")
}

fn tree_error(verb: &str, what: &str, error: &TreeError) -> AdapterError {
    let message = format!("failed to {verb} artifact `{what}`: {error}");
    match error {
        TreeError::Io(e) if e.kind() != io::ErrorKind::PermissionDenied => {
            AdapterError::transient(message)
        }
        _ => AdapterError::permanent(message),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AdapterError> + Send + 'static,
) -> Result<T, AdapterError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(AdapterError::unknown(format!("failed to finish work on artifacts: {e}")))
    })
}

#[async_trait]
impl ArtifactStore for FileArtifacts {
    async fn digest(&self, path: &str) -> Result<ArtifactDigest, AdapterError> {
        let (this, path) = (self.clone(), path.to_owned());
        blocking(move || this.digest_now(&path)).await
    }

    async fn pin(&self, path: &str, digest: &str) -> Result<(), AdapterError> {
        let lock = self.locked().await?;
        let (this, path, digest) = (self.clone(), path.to_owned(), digest.to_owned());
        blocking(move || {
            let _lock = lock;
            this.pin_now(&path, &digest)
        })
        .await
    }

    async fn verify(&self, digest: &str) -> Result<(), AdapterError> {
        let (this, digest) = (self.clone(), digest.to_owned());
        blocking(move || this.verify_now(&digest)).await
    }

    async fn prune(
        &self,
        keep: &[ArtifactDigest],
        _cx: &StepCx,
    ) -> Result<Vec<ArtifactDigest>, AdapterError> {
        let lock = self.locked().await?;
        let (this, keep) = (self.clone(), keep.to_vec());
        blocking(move || {
            let _lock = lock;
            this.prune_now(&keep)
        })
        .await
    }
}
