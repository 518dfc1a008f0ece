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
}

/// Newest format of [`ReleaseContent`] that this version reads and writes.
pub const RELEASE_FORMAT: u32 = 1;

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
