//! Records what is about to be deployed: artifacts by digest, config by content.

use std::collections::BTreeMap;

use backout_core::ids::{ServiceName, Version};
use backout_core::model::{
    Artifact, ConfigFile, RELEASE_FORMAT, Release, ReleaseContent, Service, TargetSpec,
};
use backout_core::ports::AdapterError;

use crate::config_snapshot::{self, Keep};
use crate::context::Context;

/// Builds the release of `version` from what is on disk now. With [`Keep::No`] nothing is written.
pub(crate) async fn build(
    cx: &Context,
    version: &Version,
    config: Option<Vec<ConfigFile>>,
    keep: Keep,
) -> Result<Release, AdapterError> {
    let mut artifacts = Vec::new();
    let mut services = cx.services.clone();
    for service in services.values_mut() {
        artifacts.extend(service_artifacts(cx, service, version).await?);
    }
    let config = match config {
        Some(config) => config,
        None => config_snapshot::take(cx, &cx.config_globs, keep).await?,
    };
    let content = ReleaseContent {
        format: RELEASE_FORMAT,
        app: cx.key.app.clone(),
        version: version.clone(),
        services: services.into_iter().collect::<BTreeMap<ServiceName, Service>>(),
        artifacts,
        config,
    };
    Ok(Release {
        id: content.id(),
        content,
        created_at: cx.now(),
        created_by: cx.requested_by.clone(),
    })
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
