//! A folder that lasts as long as what is measured in it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Outcome, paths};

/// Inside the cache folder, hence on a real disk: what is synced to a memory disk costs nothing.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn create(name: &str) -> Outcome<Self> {
        let path = paths::cache_dir()?.join(format!("bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)
            .map_err(|e| format!("failed to create {}: {e}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, text).map_err(|e| format!("failed to write {}: {e}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("failed to remove {}: {error}", self.0.display());
        }
    }
}
