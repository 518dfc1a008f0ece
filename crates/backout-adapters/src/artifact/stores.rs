//! All kinds of artifacts behind one port: a digest says by its scheme where it is kept.

use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ports::{AdapterError, ArtifactDigest, ArtifactStore};

use super::{FileArtifacts, IMAGE_SCHEME, ImageArtifacts};

/// Files and images.
pub struct AllArtifacts {
    files: Arc<FileArtifacts>,
    images: Arc<ImageArtifacts>,
}

impl AllArtifacts {
    /// Both stores of one environment.
    #[must_use]
    pub fn new(files: Arc<FileArtifacts>, images: Arc<ImageArtifacts>) -> Self {
        Self { files, images }
    }

    fn of(&self, digest: &str) -> &dyn ArtifactStore {
        if digest.starts_with(IMAGE_SCHEME) { self.images.as_ref() } else { self.files.as_ref() }
    }
}

#[async_trait]
impl ArtifactStore for AllArtifacts {
    async fn digest(&self, path: &str) -> Result<ArtifactDigest, AdapterError> {
        self.files.digest(path).await
    }

    async fn pin(&self, path: &str, digest: &str) -> Result<(), AdapterError> {
        self.of(digest).pin(path, digest).await
    }

    async fn verify(&self, digest: &str) -> Result<(), AdapterError> {
        self.of(digest).verify(digest).await
    }

    async fn prune(&self, keep: &[ArtifactDigest]) -> Result<Vec<ArtifactDigest>, AdapterError> {
        let mut removed = self.files.prune(keep).await?;
        removed.extend(self.images.prune(keep).await?);
        Ok(removed)
    }
}
