//! All kinds of artifacts behind one port: a digest says by its scheme where it is kept.

use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ports::{AdapterError, ArtifactDigest, ArtifactStore, StepCx};

use super::FileArtifacts;

/// Files, and what else releases are made of.
pub struct AllArtifacts {
    files: Arc<FileArtifacts>,
    others: Vec<(&'static str, Arc<dyn ArtifactStore>)>,
}

impl AllArtifacts {
    /// Files, and digests that begin with a scheme in a store of their own.
    #[must_use]
    pub fn new(
        files: Arc<FileArtifacts>,
        others: Vec<(&'static str, Arc<dyn ArtifactStore>)>,
    ) -> Self {
        Self { files, others }
    }

    fn of(&self, digest: &str) -> &dyn ArtifactStore {
        let other = self.others.iter().find(|(scheme, _)| digest.starts_with(scheme));
        other.map_or(self.files.as_ref() as &dyn ArtifactStore, |(_, store)| store.as_ref())
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

    async fn prune(
        &self,
        keep: &[ArtifactDigest],
        cx: &StepCx,
    ) -> Result<Vec<ArtifactDigest>, AdapterError> {
        let mut removed = self.files.prune(keep, cx).await?;
        for (_, store) in &self.others {
            removed.extend(store.prune(keep, cx).await?);
        }
        Ok(removed)
    }
}
