//! The images of one environment on several engines, one for each host: what a release needs is kept on all of them.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ports::{AdapterError, ArtifactDigest, ArtifactStore, StepCx};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::image::ImageArtifacts;

/// Engines that move images at the same time: they share the one link of this machine, or its registry.
const AT_ONCE: usize = 8;

/// Keeps images wherever they may have to start.
pub struct HostImages {
    engines: Vec<Arc<ImageArtifacts>>,
}

impl HostImages {
    /// These engines; the first is where references are looked up.
    #[must_use]
    pub fn new(engines: Vec<Arc<ImageArtifacts>>) -> Self {
        Self { engines }
    }

    /// Asks engines side by side, and gives all answers in their order.
    async fn each<T, F>(
        &self,
        engines: &[Arc<ImageArtifacts>],
        ask: impl Fn(Arc<ImageArtifacts>) -> F,
    ) -> Vec<Result<T, AdapterError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, AdapterError>> + Send + 'static,
    {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = JoinSet::new();
        for (index, engine) in engines.iter().enumerate() {
            let (asked, room) = (ask(engine.clone()), room.clone());
            tasks.spawn(async move {
                let _place = room.acquire_owned().await;
                (index, asked.await)
            });
        }
        let mut answers: Vec<Option<Result<T, AdapterError>>> = Vec::new();
        answers.resize_with(engines.len(), || None);
        while let Some(done) = tasks.join_next().await {
            if let Ok((index, answer)) = done {
                answers[index] = Some(answer);
            }
        }
        let ended = || Err(AdapterError::transient("failed to ask Docker: the task ended"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(ended)).collect()
    }

    /// Engines that can be asked now.
    ///
    /// # Errors
    /// Why none of them can.
    async fn reachable(&self) -> Result<Vec<Arc<ImageArtifacts>>, AdapterError> {
        let asked = self
            .each(&self.engines, |engine| async move { engine.reach().await.map(|()| engine) })
            .await;
        let mut why = AdapterError::permanent("failed to look for images: there is no host");
        let mut there = Vec::new();
        for answer in asked {
            match answer {
                Ok(engine) => there.push(engine),
                Err(error) => why = error,
            }
        }
        if there.is_empty() { Err(why) } else { Ok(there) }
    }
}

#[async_trait]
impl ArtifactStore for HostImages {
    async fn digest(&self, path: &str) -> Result<ArtifactDigest, AdapterError> {
        match self.engines.first() {
            Some(first) => first.digest(path).await,
            None => Err(AdapterError::permanent("failed to look for images: there is no host")),
        }
    }

    /// On every host. The first one alone, since that is where a copy is taken from for all.
    async fn pin(&self, path: &str, digest: &str) -> Result<(), AdapterError> {
        let Some((first, others)) = self.engines.split_first() else { return Ok(()) };
        first.pin(path, digest).await?;
        let (path, digest) = (path.to_owned(), digest.to_owned());
        let pinned = self.each(others, |engine| {
            let (path, digest) = (path.clone(), digest.clone());
            async move {
                engine.obtain(&path, &digest).await?;
                engine.pin(&path, &digest).await
            }
        });
        pinned.await.into_iter().collect()
    }

    /// A host that can't be reached says nothing against a way back: its own step will tell.
    async fn verify(&self, digest: &str) -> Result<(), AdapterError> {
        let there = self.reachable().await?;
        let verified = self.each(&there, |engine| {
            let digest = digest.to_owned();
            async move { engine.verify(&digest).await }
        });
        verified.await.into_iter().collect()
    }

    /// What a host that can't be reached still keeps goes with a later call.
    async fn prune(
        &self,
        keep: &[ArtifactDigest],
        cx: &StepCx,
    ) -> Result<Vec<ArtifactDigest>, AdapterError> {
        let there = self.reachable().await?;
        let pruned = self.each(&there, |engine| {
            let (keep, cx) = (keep.to_vec(), cx.clone());
            async move { engine.prune(&keep, &cx).await }
        });
        let mut removed = BTreeSet::new();
        for answer in pruned.await {
            removed.extend(answer?);
        }
        Ok(removed.into_iter().collect())
    }
}
