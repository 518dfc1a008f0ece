//! Targets run whole releases; a release that has services from others is taken apart here and nowhere else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backout_core::ids::{ReleaseId, Unit, Version};
use backout_core::model::{Artifact, ReadinessCheck, Release, Service};
use backout_core::ports::{
    AdapterError, Capabilities, Earlier, Farewell, Ledger, NamedText, Observed, PartsOf, Receipt,
    Rehearsal, StepCx, Target, TargetAction,
};

/// Releases that are remembered; more are read again.
const REMEMBERED_MAX: usize = 64;

/// A target that gives each service the release it comes from: its definition, its artifacts, its version and the
/// config files that it was started with. What runs as such is told to be the release that was asked for.
pub struct MixedTarget {
    inner: Arc<dyn Target>,
    ledger: Arc<dyn Ledger>,
    releases: Mutex<BTreeMap<ReleaseId, Arc<Release>>>,
}

impl MixedTarget {
    /// In front of `inner`; releases are read from `ledger`.
    #[must_use]
    pub fn new(inner: Arc<dyn Target>, ledger: Arc<dyn Ledger>) -> Self {
        Self { inner, ledger, releases: Mutex::default() }
    }

    fn remembered(&self, id: &ReleaseId) -> Option<Arc<Release>> {
        let releases = self.releases.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        releases.get(id).cloned()
    }

    async fn release(&self, id: &ReleaseId) -> Result<Arc<Release>, AdapterError> {
        if let Some(release) = self.remembered(id) {
            return Ok(release);
        }
        let found = self.ledger.release_by_id(id).await;
        let found = found.map_err(|error| AdapterError::transient(error.to_string()))?;
        let release = Arc::new(found.ok_or_else(|| {
            AdapterError::permanent(format!("failed to read release {id}: it is missing"))
        })?);
        let mut releases = self.releases.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if releases.len() >= REMEMBERED_MAX {
            releases.clear();
        }
        releases.insert(id.clone(), Arc::clone(&release));
        Ok(release)
    }

    /// The release that a unit's service comes from, if that is another one.
    async fn origin(
        &self,
        unit: &Unit,
        release: &Release,
    ) -> Result<Option<Arc<Release>>, AdapterError> {
        match release.runs_as(&unit.service) {
            id if *id == release.id => Ok(None),
            id => self.release(id).await.map(Some),
        }
    }
}

#[async_trait]
impl Target for MixedTarget {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn observe(
        &self,
        unit: &Unit,
        release: Option<&Release>,
    ) -> Result<Observed, AdapterError> {
        let Some(asked) = release else { return self.inner.observe(unit, None).await };
        let Some(origin) = self.origin(unit, asked).await? else {
            return self.inner.observe(unit, Some(asked)).await;
        };
        let mut seen = self.inner.observe(unit, Some(&origin)).await?;
        if seen.release.as_ref() == Some(&origin.id) {
            seen.release = Some(asked.id.clone());
        }
        Ok(seen)
    }

    async fn parts(
        &self,
        unit: &Unit,
        service: &mut Service,
        version: &Version,
        of: PartsOf<'_>,
    ) -> Result<Option<Vec<Artifact>>, AdapterError> {
        self.inner.parts(unit, service, version, of).await
    }

    async fn earlier(
        &self,
        unit: &Unit,
        service: &Service,
        besides: &[String],
    ) -> Result<Option<Earlier>, AdapterError> {
        self.inner.earlier(unit, service, besides).await
    }

    async fn mark_stable(&self, unit: &Unit, release: &Release) -> Result<(), AdapterError> {
        let origin = self.origin(unit, release).await?;
        self.inner.mark_stable(unit, origin.as_deref().unwrap_or(release)).await
    }

    async fn restorable(
        &self,
        unit: &Unit,
        release: &Release,
    ) -> Result<Vec<ReadinessCheck>, AdapterError> {
        let origin = self.origin(unit, release).await?;
        self.inner.restorable(unit, origin.as_deref().unwrap_or(release)).await
    }

    async fn farewell(
        &self,
        unit: &Unit,
        release: &Release,
        act: Option<&StepCx>,
    ) -> Result<Farewell, AdapterError> {
        let origin = self.origin(unit, release).await?;
        self.inner.farewell(unit, origin.as_deref().unwrap_or(release), act).await
    }

    async fn prepare(
        &self,
        unit: &Unit,
        release: &Release,
        cx: &StepCx,
    ) -> Result<(), AdapterError> {
        let origin = self.origin(unit, release).await?;
        self.inner.prepare(unit, origin.as_deref().unwrap_or(release), cx).await
    }

    async fn not_beside(
        &self,
        unit: &Unit,
        release: &Release,
    ) -> Result<Option<String>, AdapterError> {
        let origin = self.origin(unit, release).await?;
        self.inner.not_beside(unit, origin.as_deref().unwrap_or(release)).await
    }

    async fn rehearse(
        &self,
        unit: &Unit,
        release: &Release,
        cx: &StepCx,
    ) -> Result<Rehearsal, AdapterError> {
        let origin = self.origin(unit, release).await?;
        self.inner.rehearse(unit, origin.as_deref().unwrap_or(release), cx).await
    }

    async fn evidence(
        &self,
        unit: &Unit,
        release: &Release,
        limit_bytes: usize,
    ) -> Result<Vec<NamedText>, AdapterError> {
        let origin = self.origin(unit, release).await?;
        self.inner.evidence(unit, origin.as_deref().unwrap_or(release), limit_bytes).await
    }

    async fn apply(&self, action: &TargetAction, cx: &StepCx) -> Result<Receipt, AdapterError> {
        let mut action = action.clone();
        if let TargetAction::Start { unit, revert: Some(revert), .. } = &mut action
            && let Some(back_to) = &mut revert.back_to
            && let Some(origin) = self.origin(unit, back_to).await?
        {
            *back_to = origin;
        }
        let (TargetAction::Start { unit, release, .. }
        | TargetAction::Confirm { unit, release, .. }
        | TargetAction::Stop { unit, release, .. }) = &mut action;
        if let Some(origin) = self.origin(unit, release).await? {
            *release = origin;
        }
        self.inner.apply(&action, cx).await
    }

    async fn obstacles(&self, unit: &Unit, release: &Release) -> Result<Vec<String>, AdapterError> {
        let origin = self.origin(unit, release).await?;
        self.inner.obstacles(unit, origin.as_deref().unwrap_or(release)).await
    }
}

#[cfg(test)]
mod tests {
    /// A method with a default that is not handed on would hide what the adapter says.
    #[test]
    fn every_method_of_a_target_is_handed_on() {
        let names = |source: &'static str| {
            let lines = source.lines().map(str::trim);
            let heads = lines.filter_map(|line| {
                line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "))
            });
            heads.map(|head| head.split('(').next().unwrap_or_default()).collect::<Vec<_>>()
        };
        let port = include_str!("../../backout-core/src/ports/target.rs");
        let (_, of_trait) = port.split_once("pub trait Target").expect("the trait stands there");
        let (_, here) = include_str!("mixed.rs").split_once("for MixedTarget").expect("as above");
        let here = names(here);
        for name in names(of_trait) {
            assert!(here.contains(&name), "MixedTarget does not hand {name} on");
        }
    }
}
