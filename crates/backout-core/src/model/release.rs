//! The immutable record of what is deployed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::config_file::ConfigFile;
use super::health::HealthSpec;
use super::target::{EnvValue, TargetSpec};
use crate::ids::{AppName, ReleaseId, ServiceName, Version, hex};

/// A deployable part of an app as this release defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Services that must run before it.
    #[serde(default)]
    pub depends_on: BTreeSet<ServiceName>,
    /// Whether it serves requests; `false` for `traffic: none`.
    pub traffic: bool,
    /// How it is checked.
    pub health: HealthSpec,
    /// How it runs.
    pub target: TargetSpec,
    /// It runs to its end in each deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobSpec>,
}

/// A service that is done when its program has ended with 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// How long it may take, milliseconds.
    pub timeout_ms: u64,
    /// Whether it runs on the way back too.
    pub on_rollback: bool,
}

/// One file or folder that was copied for a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The service it belongs to.
    pub service: ServiceName,
    /// Path relative to the folder of `backout.yaml`.
    pub path: String,
    /// `sha256:` and hex digits over content, names and modes.
    pub digest: String,
    /// False: only hashed where it lies (no `artifact:` was given), so other bytes may start on the way back.
    pub kept: bool,
}

/// What a release id is the hash of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseContent {
    /// Version of this format.
    pub format: u32,
    /// The app.
    pub app: AppName,
    /// The label.
    pub version: Version,
    /// The services, by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// What was copied or hashed.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// The config files, masked, by path.
    #[serde(default)]
    pub config: Vec<ConfigFile>,
    /// Services that were taken over from another release as they were, with where they come from. All the others
    /// are this release's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<ServiceName, Origin>,
}

/// Where a service of a release comes from that was made by deploying or rolling back others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The release that it is part of, and that it runs as. Never one that has it from another in its turn.
    pub release: ReleaseId,
    /// That release's label.
    pub version: Version,
}

/// Format of a release whose services are all its own.
pub const RELEASE_FORMAT: u32 = 1;

/// Format of a release with [`ReleaseContent::origins`] or jobs: a program that knows nothing of them must not run it.
/// Also the newest that this version reads.
pub const MIXED_RELEASE_FORMAT: u32 = 2;

/// A release with its id and who made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Hash of the content.
    pub id: ReleaseId,
    /// The content.
    pub content: ReleaseContent,
    /// When it was first recorded.
    pub created_at: Timestamp,
    /// Who recorded it.
    pub created_by: String,
}

impl ReleaseContent {
    /// The release id: the first 20 hex digits of SHA-256 over the canonical JSON of the content.
    ///
    /// # Panics
    /// Never: the content has only string keys, so it always serializes.
    #[must_use]
    pub fn id(&self) -> ReleaseId {
        let bytes = serde_json::to_vec(self).expect("a release has only string keys");
        let digest = Sha256::digest(&bytes);
        ReleaseId::new(format!("rel_{}", &hex(&digest)[..20])).expect("hex digits are a valid id")
    }

    /// Service names so that each stands after all it depends on; ties by name. Config has refused cycles;
    /// what is left of one comes last in name order.
    #[must_use]
    pub fn start_order(&self) -> Vec<ServiceName> {
        let mut order: Vec<ServiceName> = Vec::with_capacity(self.services.len());
        while order.len() < self.services.len() {
            let ready = self.services.values().find(|service| {
                !order.contains(&service.name)
                    && service
                        .depends_on
                        .iter()
                        .all(|d| order.contains(d) || !self.services.contains_key(d))
            });
            match ready {
                Some(service) => order.push(service.name.clone()),
                None => {
                    let rest: Vec<_> =
                        self.services.keys().filter(|n| !order.contains(n)).cloned().collect();
                    order.extend(rest);
                }
            }
        }
        order
    }

    /// Services that depend on each other in a circle, in its order; the first one stands at the end again.
    #[must_use]
    pub fn circle(&self) -> Option<Vec<ServiceName>> {
        let mut open: BTreeSet<&ServiceName> = self.services.keys().collect();
        let needs = |name: &ServiceName, open: &BTreeSet<&ServiceName>| {
            let service = self.services.get(name)?;
            service.depends_on.iter().find(|other| open.contains(other)).cloned()
        };
        // What depends on nothing that is left can't be part of one.
        while let Some(done) = open.iter().find(|name| needs(name, &open).is_none()).copied() {
            open.remove(done);
        }
        let mut trail = vec![(*open.first()?).clone()];
        loop {
            let next = needs(trail.last()?, &open)?;
            if let Some(from) = trail.iter().position(|name| *name == next) {
                trail.push(next);
                return Some(trail.split_off(from));
            }
            trail.push(next);
        }
    }

    /// The services that are this release's own: all of them, unless it was made by deploying some.
    #[must_use]
    pub fn own_services(&self) -> Vec<ServiceName> {
        self.services.keys().filter(|name| !self.origins.contains_key(*name)).cloned().collect()
    }

    /// The version that a service has: its own where it was taken over, else the release's.
    #[must_use]
    pub fn version_of(&self, service: &ServiceName) -> &Version {
        self.origins.get(service).map_or(&self.version, |origin| &origin.version)
    }

    /// Names of secret environment keys that a start of this release needs from its caller.
    #[must_use]
    pub fn secret_env_keys(&self) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        for service in self.services.values() {
            let secret = service.target.env().filter(|(_, v)| matches!(v, EnvValue::Secret));
            keys.extend(secret.map(|(k, _)| k.clone()));
        }
        keys
    }
}

impl Release {
    /// The release that a service runs as: this one, or the one that it was taken over from.
    #[must_use]
    pub fn runs_as(&self, service: &ServiceName) -> &ReleaseId {
        self.content.origins.get(service).map_or(&self.id, |origin| &origin.release)
    }
}
