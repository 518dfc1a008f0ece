//! Containers by Docker Compose: on this machine's engine, and on those of other hosts.

use std::path::Path;
use std::sync::Arc;

use backout_adapters::artifact::{HostImages, ImageArtifacts, Keep};
use backout_adapters::docker::Docker;
use backout_adapters::target::{
    ComposeHost, ComposeTarget, ComposeTargetOptions, process::ConfigBlobs,
};
use backout_core::ids::HostName;
use backout_core::model::{ComposeSpec, RouterPolicy, Strategy};
use backout_core::ports::{ArtifactStore, Target};

use super::{Finding, Surroundings, hosts};
use crate::config::Settings;

/// The compose target, and what keeps its images.
pub(super) fn compose(
    s: &Surroundings<'_>,
    blobs: Arc<dyn ConfigBlobs>,
) -> (Arc<dyn Target>, Arc<dyn ArtifactStore>) {
    let docker = Docker::new(std::env::vars_os(), s.folder.to_owned());
    let keep = if s.settings.copies_images { Keep::Copy } else { Keep::Pin };
    let keeping = |docker: &Docker| {
        let (key, ledger) = (&s.settings.key, &s.ledger_id);
        Arc::new(ImageArtifacts::new(docker.clone(), key, ledger, s.state_dir, keep))
    };
    let images = keeping(&docker);
    let others: Vec<ComposeHost> = engines(s.settings, s.folder, &docker)
        .into_iter()
        .map(|(name, docker)| ComposeHost { name, images: keeping(&docker), docker })
        .collect();
    let store: Arc<dyn ArtifactStore> = match others.is_empty() {
        true => images.clone(),
        false => {
            let of = |name: &HostName| match others.iter().find(|other| other.name == *name) {
                Some(other) => other.images.clone(),
                None => images.clone(),
            };
            Arc::new(HostImages::new(s.settings.hosts.iter().map(of).collect()))
        }
    };
    let target = ComposeTarget::new(ComposeTargetOptions {
        state_dir: s.state_dir.to_owned(),
        folder: s.folder.to_owned(),
        key: s.settings.key.clone(),
        ledger: s.ledger_id.clone(),
        docker,
        images,
        blobs,
        services: s.settings.services.clone(),
        secrets: s.settings.secrets.clone(),
        beside: s.settings.policy.router != RouterPolicy::None,
        rolls: matches!(s.settings.policy.strategy, Strategy::Rolling { .. })
            && s.settings.hosts.len() == 1,
    });
    (Arc::new(target.with_hosts(others)), store)
}

/// The engines of other hosts.
fn engines(settings: &Settings, folder: &Path, docker: &Docker) -> Vec<(HostName, Docker)> {
    let socket = &settings.ssh.docker_socket;
    let hosts = hosts::hosts(settings, folder);
    let on = |host: &Arc<dyn backout_core::ports::Host>| {
        (host.name().clone(), docker.on(host.clone(), socket.clone()))
    };
    hosts.all().map(on).collect()
}

/// What compose needs, looked at: the engines, the plugin, the file.
pub async fn check_compose(settings: &Settings, folder: &Path, spec: &ComposeSpec) -> Vec<Finding> {
    let docker = Docker::new(std::env::vars_os(), folder.to_owned());
    let others = engines(settings, folder, &docker);
    let of = |name: &HostName| {
        let other = others.iter().find(|(other, _)| other == name);
        other.map_or_else(|| docker.clone(), |(_, docker)| docker.clone())
    };
    let all: Vec<Docker> = settings.hosts.iter().map(of).collect();
    let (key, secrets) = (&settings.key, &settings.secrets);
    backout_adapters::target::compose::check(&all, folder, key, spec, secrets).await
}
