//! Copies of what a release starts, by content.

use async_trait::async_trait;

use super::error::AdapterError;
use super::step_cx::StepCx;

/// Digest of a file or folder: `sha256:` and hex digits over content, names and modes.
pub type ArtifactDigest = String;

/// Keeps the bytes of artifacts.
#[async_trait]
pub trait ArtifactStore: Send + Sync {
    /// Reads what stands at `path` (relative to the folder of `backout.yaml`) and hashes it; keeps nothing.
    ///
    /// # Errors
    /// Permanent when it is missing or can't be read.
    async fn digest(&self, path: &str) -> Result<ArtifactDigest, AdapterError>;

    /// Copies what stands at `path`, durably and atomically, if its digest is the expected one. Idempotent.
    ///
    /// # Errors
    /// Permanent when its content is another by now.
    async fn pin(&self, path: &str, digest: &str) -> Result<(), AdapterError>;

    /// Proves that the copy is there and whole.
    ///
    /// # Errors
    /// Permanent with what is wrong.
    async fn verify(&self, digest: &str) -> Result<(), AdapterError>;

    /// Forgets copies that are not in `keep`, and returns what was removed. Where there is a fence it is passed with the
    /// epoch of `cx`.
    ///
    /// # Errors
    /// Transient when something could not be removed.
    async fn prune(
        &self,
        keep: &[ArtifactDigest],
        cx: &StepCx,
    ) -> Result<Vec<ArtifactDigest>, AdapterError>;
}
