//! A bare `rollback` where the ledger knows no older good release: the target may know what was there before.

use std::collections::BTreeMap;
use std::sync::Arc;

use backout_core::model::{
    Deployment, DeploymentStatus, EnvironmentRecord, RELEASE_FORMAT, ReadinessCheck,
    ReadinessReport, Release, ReleaseContent, Severity,
};

use super::EngineError;
use super::rollback::{RollbackTarget, RollbackWishes};
use crate::context::Context;
use crate::readiness::{check, history, rejected_releases, way_back_checks};
use crate::situation;

/// What was there before Backout, as a release that is made for the way back.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    /// It stands in no ledger; its number is the one that it will get.
    pub target: Deployment,
    pub release: Arc<Release>,
    /// Which it is and how it was found, for people.
    pub found: String,
}

/// Asks the target. `None`: it knows nothing, or something else was asked for.
///
/// # Errors
/// When the target can't tell now.
pub(crate) async fn before(
    cx: &Context,
    wishes: &RollbackWishes,
    environment: &EnvironmentRecord,
    history: &[Deployment],
) -> Result<Option<Before>, EngineError> {
    if wishes.target != RollbackTarget::LastKnownGood {
        return Ok(None);
    }
    of_live(cx, environment, history).await
}

/// What a bare rollback would go back to, where only the target knows of it. What can't be told now is no way back.
pub(crate) async fn readiness(
    cx: &Context,
    environment: &EnvironmentRecord,
) -> Option<ReadinessReport> {
    let found = async {
        let Some(before) = of_live(cx, environment, &history(cx).await?).await? else {
            return Ok(None);
        };
        let mut checks = way_back_checks(cx, environment, &before.release).await?;
        checks.insert(0, check("target_status", Severity::Warning, ""));
        before.correct(&mut checks);
        Ok::<_, EngineError>(Some(ReadinessReport {
            deployment: before.target.number,
            version: before.target.version.clone(),
            ready: checks.iter().all(|check| check.status != Severity::Error),
            checked_at: cx.now(),
            checks,
            expected_ms: None,
            found: Some(before.found),
        }))
    };
    found.await.unwrap_or_else(|error| {
        cx.events.note(format!("what was there before the ledger can't be told: {error}"));
        None
    })
}

async fn of_live(
    cx: &Context,
    environment: &EnvironmentRecord,
    history: &[Deployment],
) -> Result<Option<Before>, EngineError> {
    let live = history.iter().find(|row| Some(row.number) == environment.live);
    let Some(row) = live else { return Ok(None) };
    let live = situation::release(cx, &row.release).await?;
    let mut besides: Vec<String> = digests(&live).collect();
    for id in rejected_releases(history) {
        besides.extend(digests(&*situation::release(cx, &id).await?));
    }
    let (mut services, mut artifacts) = (BTreeMap::new(), Vec::new());
    let (mut version, mut found) = (None, Vec::new());
    for (name, service) in &live.content.services {
        let unit = situation::unit(cx, name, row.slot);
        let Some(earlier) = cx.target.earlier(&unit, service, &besides).await? else {
            return Ok(None);
        };
        services.insert(name.clone(), earlier.service);
        artifacts.extend(earlier.artifacts);
        version.get_or_insert(earlier.version);
        found.push(earlier.found);
    }
    let Some(version) = version else { return Ok(None) };
    let content = ReleaseContent {
        format: RELEASE_FORMAT,
        app: cx.key.app.clone(),
        version: version.clone(),
        services,
        artifacts,
        // Nobody kept those of that time.
        config: live.content.config.clone(),
        origins: BTreeMap::new(),
    };
    let (created_at, created_by) = (cx.now(), cx.requested_by.clone());
    let release = Arc::new(Release { id: content.id(), content, created_at, created_by });
    let target = Deployment {
        number: environment.next_number,
        release: release.id.clone(),
        version,
        status: DeploymentStatus::Pending,
        rejected: false,
        stable_at: None,
        ..row.clone()
    };
    Ok(Some(Before { target, release, found: found.join("; ") }))
}

fn digests(release: &Release) -> impl Iterator<Item = String> {
    release.content.artifacts.iter().map(|artifact| artifact.digest.clone())
}

impl Before {
    /// What the checks can't know of a release without a deployment: nothing is kept of it yet, and nobody saw it run.
    pub fn correct(&self, checks: &mut [ReadinessCheck]) {
        for old in checks {
            *old = match old.name.as_str() {
                name @ "target_exists" => check(name, Severity::Pass, self.found.clone()),
                name @ "target_status" => {
                    let words = format!(
                        "the ledger knows no older good release: {}; Backout never saw it run",
                        self.found
                    );
                    check(name, Severity::Warning, words)
                }
                name @ "artifact_available" => {
                    check(name, Severity::Pass, "it is there, and is kept before the first step")
                }
                _ => continue,
            };
        }
    }
}
