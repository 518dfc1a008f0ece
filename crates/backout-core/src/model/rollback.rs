//! The record of a rollback (`INTERFACES`, `rollback --format json`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::words::{Health, RollbackStatus, RollbackType, Surface, Trigger};
use crate::ids::{EnvironmentKey, OperationId, RollbackId, ServiceName, Version};

/// One step as the record shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Effect key: operation and step.
    pub id: String,
    /// `stop`, `code`, `config`, `data` or `start`.
    pub phase: String,
    /// Its name.
    pub name: String,
    /// `pending running done failed skipped`.
    pub status: String,
    /// Tries.
    pub attempts: u32,
    /// From first try to outcome.
    pub duration_ms: u64,
}

/// A rollback, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRecord {
    /// Its id.
    pub id: RollbackId,
    /// App and environment.
    #[serde(flatten)]
    pub key: EnvironmentKey,
    /// The operation that ran it.
    pub operation: OperationId,
    /// The deployment that was left.
    pub deployment_from: Option<u64>,
    /// The deployment that was made.
    pub deployment_to: u64,
    /// The version that was left.
    pub from_version: Option<Version>,
    /// The version that is live again.
    pub target_version: Version,
    /// How the target was found.
    pub rollback_type: RollbackType,
    /// The services that went back; none: all of them. Named ones make it a partial rollback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceName>,
    /// What caused it.
    pub trigger: Trigger,
    /// Through which door it came.
    pub surface: Surface,
    /// How far it is.
    pub status: RollbackStatus,
    /// Why.
    pub reason: Option<String>,
    /// Who asked.
    pub requested_by: String,
    /// `--force` or a person's confirmation.
    pub forced: bool,
    /// Names of lifted checks.
    pub overrides: Vec<String>,
    /// What was removed.
    pub resources_deleted: Vec<String>,
    /// Number of the deployment that was live before.
    pub previous_state_version: Option<u64>,
    /// `traffic`, `release`, `config`.
    pub changes_reverted: Vec<String>,
    /// Whether data was left as it is.
    pub data_preserved: bool,
    /// By service, at the end.
    pub health: BTreeMap<String, Health>,
    /// The steps.
    pub steps: Vec<StepRecord>,
    /// The sentences behind the verdict.
    pub evidence: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// What went wrong.
    pub error_message: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When traffic was safe.
    pub traffic_safe_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
    /// From begin to end.
    pub duration_ms: Option<u64>,
    /// When the row was made.
    pub created_at: Timestamp,
    /// When the row last changed.
    pub updated_at: Timestamp,
    /// Whether a notification went out.
    pub notification_sent: bool,
}
