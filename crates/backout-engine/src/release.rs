//! Records what is about to be deployed: artifacts by digest, config by content.

use std::collections::{BTreeMap, BTreeSet};

use backout_core::ids::{ServiceName, Slot, Version};
use backout_core::model::{
    Artifact, ConfigFile, MIXED_RELEASE_FORMAT, RELEASE_FORMAT, Release, ReleaseContent, Service,
    TargetSpec,
};
use backout_core::ports::{AdapterError, PartsOf};

use crate::config_snapshot::{self, Keep};
use crate::context::Context;
use crate::situation;

/// Builds the release of `version` from what is on disk now: of all services, or of `only` these. With [`Keep::No`]
/// nothing is written.
pub(crate) async fn build(
    cx: &Context,
    version: &Version,
    config: Option<Vec<ConfigFile>>,
    only: Option<&BTreeSet<ServiceName>>,
    keep: Keep,
) -> Result<Release, AdapterError> {
    let ahead = keep == Keep::No;
    match config {
        Some(config) => {
            let recorded = PartsOf::Recorded(&config);
            let of = if ahead { PartsOf::Ahead(&recorded) } else { recorded };
            let (services, artifacts) = parts(cx, version, of, only).await?;
            Ok(release_of(cx, version, services, artifacts, config))
        }
        None => {
            let of = if ahead { PartsOf::Ahead(&PartsOf::Disk) } else { PartsOf::Disk };
            let (services, artifacts) = parts(cx, version, of, only).await?;
            let config = config_snapshot::take(cx, &cx.config_globs, keep).await?;
            Ok(release_of(cx, version, services, artifacts, config))
        }
    }
}

/// Builds the release of what runs already, with the definition that is on disk.
pub(crate) async fn build_running(
    cx: &Context,
    version: &Version,
) -> Result<Release, AdapterError> {
    let (services, artifacts) = parts(cx, version, PartsOf::Running, None).await?;
    let config = config_snapshot::take(cx, &cx.config_globs, Keep::Yes).await?;
    Ok(release_of(cx, version, services, artifacts, config))
}

async fn parts(
    cx: &Context,
    version: &Version,
    of: PartsOf<'_>,
    only: Option<&BTreeSet<ServiceName>>,
) -> Result<(BTreeMap<ServiceName, Service>, Vec<Artifact>), AdapterError> {
    let mut services = cx.services.clone();
    services.retain(|name, _| only.is_none_or(|only| only.contains(name)));
    let mut artifacts = Vec::new();
    for service in services.values_mut() {
        let unit = situation::unit(cx, &service.name, Slot::A);
        match cx.target.parts(&unit, service, version, of).await? {
            Some(known) => artifacts.extend(known),
            None => artifacts.extend(service_artifacts(cx, service, version).await?),
        }
    }
    Ok((services, artifacts))
}

fn release_of(
    cx: &Context,
    version: &Version,
    services: BTreeMap<ServiceName, Service>,
    artifacts: Vec<Artifact>,
    config: Vec<ConfigFile>,
) -> Release {
    let content = ReleaseContent {
        format: match services.values().any(|service| service.job.is_some()) {
            true => MIXED_RELEASE_FORMAT,
            false => RELEASE_FORMAT,
        },
        app: cx.key.app.clone(),
        version: version.clone(),
        services,
        artifacts,
        config,
        origins: BTreeMap::new(),
    };
    Release { id: content.id(), content, created_at: cx.now(), created_by: cx.requested_by.clone() }
}

async fn service_artifacts(
    cx: &Context,
    service: &mut Service,
    version: &Version,
) -> Result<Vec<Artifact>, AdapterError> {
    let TargetSpec::Process(process) = &mut service.target else { return Ok(Vec::new()) };
    let mut artifacts = Vec::new();
    for path in &mut process.artifact {
        *path = path.replace("{version}", version.as_str());
        let digest = cx.artifacts.digest(path).await?;
        artifacts.push(Artifact {
            service: service.name.clone(),
            path: path.clone(),
            digest,
            kept: true,
        });
    }
    if artifacts.is_empty() {
        // Nothing is kept, but a changed program is noticed before it is started on the way back.
        for word in &process.command {
            let path = word.replace("{version}", version.as_str());
            if let Ok(digest) = cx.artifacts.digest(&path).await {
                artifacts.push(Artifact {
                    service: service.name.clone(),
                    path,
                    digest,
                    kept: false,
                });
            }
        }
    }
    Ok(artifacts)
}
