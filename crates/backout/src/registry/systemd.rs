//! Units of systemd, here and on other hosts.

use std::path::Path;
use std::sync::Arc;

use backout_adapters::artifact::FileArtifacts;
use backout_adapters::host::Hosts;
use backout_adapters::target::systemd::SystemdArtifacts;
use backout_adapters::target::{SystemdTarget, SystemdTargetOptions};
use backout_core::ids::{HostName, LedgerId};
use backout_core::model::{RouterPolicy, TargetSpec};

use super::{Finding, Surroundings, hosts};
use crate::config::Settings;

/// The systemd target, and what keeps its artifacts.
pub(super) fn systemd(
    s: &Surroundings<'_>,
    files: Arc<FileArtifacts>,
) -> (Arc<SystemdTarget>, Arc<SystemdArtifacts>) {
    let hosts = hosts::hosts(s.settings, s.folder);
    let services = s.settings.services.values();
    let kept = SystemdArtifacts::new(files.clone(), s.folder, &s.settings.key, services);
    let target = target(s.settings, s.folder, s.state_dir, &s.ledger_id, files, hosts.clone());
    (Arc::new(target), Arc::new(kept.with_hosts(hosts)))
}

fn target(
    settings: &Settings,
    folder: &Path,
    state_dir: &Path,
    ledger: &LedgerId,
    artifacts: Arc<FileArtifacts>,
    hosts: Hosts,
) -> SystemdTarget {
    let target = SystemdTarget::new(SystemdTargetOptions {
        state_dir: state_dir.to_owned(),
        folder: folder.to_owned(),
        key: settings.key.clone(),
        ledger: ledger.clone(),
        artifacts,
        services: settings.services.clone(),
        beside: settings.policy.router != RouterPolicy::None,
    });
    target.with_hosts(hosts, settings.hosts.iter().any(HostName::is_local))
}

/// What units need, looked at: the service manager, the units themselves.
pub async fn check_systemd(settings: &Settings, folder: &Path) -> Vec<Finding> {
    // Nothing is kept or marked here, so that neither ledger nor state folder are needed.
    let ledger = LedgerId::new("led_none").expect("it is a valid id");
    let files = Arc::new(FileArtifacts::new(folder, folder));
    let hosts = hosts::hosts(settings, folder);
    let target = target(settings, folder, folder, &ledger, files, hosts.clone());
    let services: Vec<_> = settings
        .services
        .iter()
        .filter_map(|(name, service)| match &service.target {
            TargetSpec::Systemd(spec) => Some((name.clone(), spec.clone())),
            _ => None,
        })
        .collect();
    let found = backout_adapters::target::systemd::check(&target, &services).await;
    hosts.close().await;
    found
}
