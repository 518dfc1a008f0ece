//! Config files on disk, read and restored byte-exact.

use async_trait::async_trait;

use super::error::AdapterError;
use crate::model::ConfigFile;

/// A config file as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFile {
    /// Path, mode, owner, label, link text. `FileKind::File.blob` is empty until the bytes are stored.
    pub meta: ConfigFile,
    /// The bytes of a file; empty for a link. Secret values are in them.
    pub bytes: Vec<u8>,
}

/// Reads and restores config files below the folder of `backout.yaml`.
#[async_trait]
pub trait ConfigFiles: Send + Sync {
    /// All files that match the globs, by path. A glob that matches nothing is fine; a literal path that is
    /// missing is permanent. Each file at most 10 MiB, all at most 100 MiB.
    ///
    /// # Errors
    /// Names the file that can't be read.
    async fn read(&self, globs: &[String]) -> Result<Vec<DiskFile>, AdapterError>;

    /// One file by path; `None` if nothing is there.
    ///
    /// # Errors
    /// Names the file that can't be read.
    async fn read_one(&self, path: &str) -> Result<Option<DiskFile>, AdapterError>;

    /// Puts a file there atomically: content, mode, owner, label, or the link.
    ///
    /// # Errors
    /// Names the file; nothing half-written stays.
    async fn write(&self, file: &DiskFile) -> Result<(), AdapterError>;

    /// Removes a file that the restored release did not have. Missing is fine.
    ///
    /// # Errors
    /// Names the file.
    async fn remove(&self, path: &str) -> Result<(), AdapterError>;
}
