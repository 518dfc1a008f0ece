//! One attempt to make a release live in an environment.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::words::{DeploymentKind, DeploymentStatus, Health, RollbackType, Surface, Trigger};
use crate::ids::{
    DeploymentId, EnvironmentKey, OperationId, ReleaseId, ServiceName, Slot, Version,
};

/// A numbered deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Global id.
    pub id: DeploymentId,
    /// App and environment.
    pub key: EnvironmentKey,
    /// Its number in the environment: the revision.
    pub number: u64,
    /// What made it.
    pub kind: DeploymentKind,
    /// What it makes live.
    pub release: ReleaseId,
    /// The release's label.
    pub version: Version,
    /// What was live before it.
    pub from_version: Option<Version>,
    /// Number of what was live before it.
    pub from_number: Option<u64>,
    /// How far it is.
    pub status: DeploymentStatus,
    /// It was rolled back from.
    pub rejected: bool,
    /// Where its release runs.
    pub slot: Slot,
    /// For rollbacks.
    pub rollback_type: Option<RollbackType>,
    /// For rollbacks.
    pub trigger: Option<Trigger>,
    /// Through which door it came.
    pub surface: Surface,
    /// Why.
    pub reason: Option<String>,
    /// Who asked.
    pub requested_by: String,
    /// `--force` or a person's confirmation.
    pub forced: bool,
    /// The operation that makes it.
    pub operation: OperationId,
    /// When it began.
    pub started_at: Timestamp,
    /// When its operation ended (or the bake).
    pub completed_at: Option<Timestamp>,
    /// When it became stable.
    pub stable_at: Option<Timestamp>,
    /// Last health known at its end.
    pub health: Health,
    /// What went wrong.
    pub error_message: Option<String>,
    /// Warnings kept with it.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The services that it was asked for; none: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceName>,
}

impl Deployment {
    /// `#42`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("#{}", self.number)
    }
}

/// Which deployments a history query wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeploymentFilter {
    /// Only rollbacks.
    pub rollbacks_only: bool,
    /// Only with this status.
    pub status: Option<DeploymentStatus>,
    /// Only begun at or after this.
    pub since: Option<Timestamp>,
    /// At most this many, newest first.
    pub limit: Option<u32>,
}
