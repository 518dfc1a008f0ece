//! Config files in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use backout_core::model::{ConfigFile, FileKind};
use backout_core::ports::{AdapterError, ConfigFiles, DiskFile};

use crate::faults::FaultPlan;

/// A disk in memory. Clones share it. Faults are named `read`, `write` and `remove`; `write` and `remove` are effects.
#[derive(Clone, Default)]
pub struct FakeConfigFiles {
    disk: Arc<Mutex<BTreeMap<String, DiskFile>>>,
    faults: FaultPlan,
}

impl FakeConfigFiles {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The planned faults.
    #[must_use]
    pub fn faults(&self) -> &FaultPlan {
        &self.faults
    }

    /// Puts a file there, as a person would.
    pub fn put(&self, path: &str, bytes: &[u8], mode: u32) {
        let kind = FileKind::File { blob: String::new(), size: bytes.len() as u64 };
        self.disk().insert(
            path.to_owned(),
            DiskFile { meta: meta(path, kind, mode), bytes: bytes.to_vec() },
        );
    }

    /// Puts a link there, as a person would.
    pub fn link(&self, path: &str, target: &str) {
        let kind = FileKind::Link { target: target.to_owned() };
        self.disk()
            .insert(path.to_owned(), DiskFile { meta: meta(path, kind, 0o777), bytes: Vec::new() });
    }

    /// Takes a file away, as a person would.
    pub fn take(&self, path: &str) {
        self.disk().remove(path);
    }

    /// The bytes of a file.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.disk().get(path).map(|file| file.bytes.clone())
    }

    fn disk(&self) -> MutexGuard<'_, BTreeMap<String, DiskFile>> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn faulty<T>(
        &self,
        name: &str,
        effect: bool,
        work: impl FnOnce(&mut BTreeMap<String, DiskFile>) -> Result<T, AdapterError>,
    ) -> Result<T, AdapterError> {
        match self.faults.next(name, effect) {
            Some(fault) => {
                if fault.has_effect() {
                    work(&mut self.disk())?;
                }
                Err(fault.answer(name).await)
            }
            None => work(&mut self.disk()),
        }
    }
}

fn meta(path: &str, kind: FileKind, mode: u32) -> ConfigFile {
    ConfigFile {
        path: path.to_owned(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        selinux: None,
        secrets: Vec::new(),
    }
}

fn confined(path: &str) -> Result<(), AdapterError> {
    if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(AdapterError::permanent(format!(
            "failed to use config file `{path}`: it leads out of the folder"
        )));
    }
    Ok(())
}

#[async_trait]
impl ConfigFiles for FakeConfigFiles {
    async fn read(&self, globs: &[String]) -> Result<Vec<DiskFile>, AdapterError> {
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        self.faulty("read", false, |disk| {
            let mut found = BTreeMap::new();
            for text in globs {
                confined(text)?;
                let pattern = glob::Pattern::new(text).map_err(|e| {
                    AdapterError::permanent(format!("failed to read `{text}`: {e}"))
                })?;
                let literal = !text.contains(['*', '?', '[']);
                if literal && !disk.contains_key(text) {
                    return Err(AdapterError::permanent(format!(
                        "failed to read `{text}`: it does not exist"
                    )));
                }
                let matching = disk.iter().filter(|(path, _)| pattern.matches_with(path, options));
                found.extend(matching.map(|(path, file)| (path.clone(), file.clone())));
            }
            Ok(found.into_values().collect())
        })
        .await
    }

    async fn read_one(&self, path: &str) -> Result<Option<DiskFile>, AdapterError> {
        confined(path)?;
        self.faulty("read", false, |disk| Ok(disk.get(path).cloned())).await
    }

    async fn write(&self, file: &DiskFile) -> Result<(), AdapterError> {
        confined(&file.meta.path)?;
        self.faulty("write", true, |disk| {
            let mut file = file.clone();
            if let FileKind::File { blob, size } = &mut file.meta.kind {
                blob.clear();
                *size = file.bytes.len() as u64;
            }
            file.meta.secrets.clear();
            disk.insert(file.meta.path.clone(), file);
            Ok(())
        })
        .await
    }

    async fn remove(&self, path: &str) -> Result<(), AdapterError> {
        confined(path)?;
        self.faulty("remove", true, |disk| {
            disk.remove(path);
            Ok(())
        })
        .await
    }
}
