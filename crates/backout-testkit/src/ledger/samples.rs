//! Small valid records.

use std::collections::BTreeMap;

use backout_core::ids::{
    AppName, DeploymentId, EnvironmentKey, EnvironmentName, OperationId, ReleaseId, RequestId,
    RollbackId, Slot, Version,
};
use backout_core::model::{
    ControllerBeat, DeployOrder, Deployment, DeploymentKind, DeploymentStatus, Health,
    OperationKind, RELEASE_FORMAT, Release, ReleaseContent, Request, RequestAnswer, RequestKind,
    RollbackRecord, RollbackStatus, RollbackType, Strategy, Surface, Tended, Trigger,
};
use backout_core::plan::{Action, Nature, PLAN_FORMAT, Phase, Plan, Step};
use backout_core::ports::{Holder, OutboxMessage};
use backout_core::saga::{ENTRY_FORMAT, Entry, EntryKind};
use jiff::Timestamp;

/// An environment of an app.
#[must_use]
pub fn key(app: &str, environment: &str) -> EnvironmentKey {
    let app = AppName::new(app).expect("samples have valid names");
    EnvironmentKey {
        app,
        environment: EnvironmentName::new(environment).expect("samples have valid names"),
    }
}

/// A moment, in seconds after another fixed one.
#[must_use]
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).expect("samples lie in this century")
}

/// An operation.
#[must_use]
pub fn operation(name: &str) -> OperationId {
    OperationId::new(format!("op_{name}")).expect("samples have valid names")
}

/// A release of an app.
#[must_use]
pub fn release(app: &AppName, version: &str) -> Release {
    let content = ReleaseContent {
        format: RELEASE_FORMAT,
        app: app.clone(),
        version: Version::new(version).expect("samples have valid names"),
        services: BTreeMap::new(),
        artifacts: vec![],
        config: vec![],
        origins: BTreeMap::new(),
    };
    Release { id: content.id(), content, created_at: at(0), created_by: "ann@host:1".to_owned() }
}

/// A deploy with one step.
#[must_use]
pub fn plan(key: &EnvironmentKey, operation: &OperationId, number: u64, release: &Release) -> Plan {
    let step = Step {
        key: "01-snapshot".to_owned(),
        name: "snapshot".to_owned(),
        phase: Phase::Data,
        subject: key.to_string(),
        before: "unsaved".to_owned(),
        after: "saved".to_owned(),
        action: Action::Snapshot,
        compensation: None,
        nature: Nature::Compensatable,
        timeout_ms: 60_000,
        max_attempts: 3,
        wave: None,
    };
    Plan {
        format: PLAN_FORMAT,
        operation: operation.clone(),
        kind: OperationKind::Deploy,
        key: key.clone(),
        deployment: Some(number),
        deployment_id: Some(deployment_id(key, number)),
        rollback_id: None,
        release: Some(release.id.clone()),
        version: Some(release.content.version.clone()),
        services: Vec::new(),
        slot: Slot::A,
        from: None,
        left: None,
        reject_left: false,
        target_was_stable: false,
        rollback_type: None,
        trigger: None,
        surface: Surface::Cli,
        requested_by: "ann@host:1".to_owned(),
        reason: None,
        forced: false,
        overrides: vec![],
        evidence: vec![],
        warnings: vec![],
        work_timeout_ms: 60_000,
        strategy: "recreate".to_owned(),
        automatic_rollback: true,
        planned_at: at(0),
        live_at: None,
        steps: vec![step],
    }
}

/// The global id that samples give a deployment.
#[must_use]
pub fn deployment_id(key: &EnvironmentKey, number: u64) -> DeploymentId {
    DeploymentId::new(format!("dep_{}_{}_{number}", key.app, key.environment))
        .expect("samples have valid names")
}

/// A stable deployment, begun `number` seconds after [`at`]`(0)`.
#[must_use]
pub fn deployment(
    key: &EnvironmentKey,
    operation: &OperationId,
    number: u64,
    release: &Release,
) -> Deployment {
    let started_at = at(i64::try_from(number).expect("samples have small numbers"));
    Deployment {
        id: deployment_id(key, number),
        key: key.clone(),
        number,
        kind: DeploymentKind::Deploy,
        release: release.id.clone(),
        version: release.content.version.clone(),
        from_version: None,
        from_number: None,
        status: DeploymentStatus::Stable,
        rejected: false,
        slot: Slot::A,
        rollback_type: None,
        trigger: None,
        surface: Surface::Cli,
        reason: None,
        requested_by: "ann@host:1".to_owned(),
        forced: false,
        operation: operation.clone(),
        started_at,
        completed_at: Some(started_at),
        stable_at: Some(started_at),
        health: Health::Healthy,
        error_message: None,
        warnings: vec!["a warning with \"quotes\" and ünïcode".to_owned()],
        services: Vec::new(),
    }
}

/// A completed rollback that made a deployment.
#[must_use]
pub fn rollback(name: &str, deployment: &Deployment) -> RollbackRecord {
    RollbackRecord {
        id: RollbackId::new(format!("rb_{name}")).expect("samples have valid names"),
        key: deployment.key.clone(),
        operation: deployment.operation.clone(),
        deployment_from: Some(deployment.number.saturating_sub(1)),
        deployment_to: deployment.number,
        from_version: None,
        target_version: deployment.version.clone(),
        rollback_type: RollbackType::Previous,
        services: Vec::new(),
        trigger: Trigger::Manual,
        surface: Surface::Cli,
        status: RollbackStatus::Completed,
        reason: Some("checkout fails".to_owned()),
        requested_by: "ann@host:1".to_owned(),
        forced: false,
        overrides: vec![],
        resources_deleted: vec![],
        previous_state_version: None,
        changes_reverted: vec!["traffic".to_owned()],
        data_preserved: true,
        health: BTreeMap::from([("web".to_owned(), Health::Healthy)]),
        steps: vec![],
        evidence: vec![],
        warnings: vec![],
        error_message: None,
        started_at: deployment.started_at,
        traffic_safe_at: None,
        completed_at: None,
        duration_ms: Some(3),
        created_at: deployment.started_at,
        updated_at: deployment.started_at,
        notification_sent: false,
    }
}

/// An entry that says so much.
#[must_use]
pub fn entry(epoch: u64, message: &str) -> Entry {
    Entry {
        format: ENTRY_FORMAT,
        at: at(1),
        epoch,
        kind: EntryKind::Warning { message: message.to_owned() },
    }
}

/// A request to abort.
#[must_use]
pub fn request(key: &EnvironmentKey, operation: &OperationId, name: &str) -> Request {
    Request {
        id: RequestId::new(format!("rq_{name}")).expect("samples have valid names"),
        key: key.clone(),
        operation: operation.clone(),
        kind: RequestKind::Abort,
        requested_by: "bob@host:2".to_owned(),
        reason: Some("wrong branch".to_owned()),
        created_at: at(2),
        order: None,
        answer: None,
    }
}

/// An order of a deploy.
#[must_use]
pub fn order(key: &EnvironmentKey, name: &str) -> Request {
    let order = DeployOrder {
        release: release(&key.app, "2.0.0"),
        strategy: Strategy::Recreate,
        restore_config: false,
        overrides: Vec::new(),
        surface: Surface::Cli,
        policy: "digest".to_owned(),
    };
    Request {
        kind: RequestKind::Deploy,
        order: Some(Box::new(order)),
        ..request(key, &operation(name), name)
    }
}

/// What a controller says of itself.
#[must_use]
pub fn beat(holder: &Holder, started: i64, keys: &[EnvironmentKey]) -> ControllerBeat {
    let tended = |key: &EnvironmentKey| Tended {
        key: key.clone(),
        folder: "/srv/shop".to_owned(),
        policy: "digest".to_owned(),
        secrets: vec![("API_KEY".to_owned(), "0123".to_owned())],
    };
    ControllerBeat {
        holder: holder.clone(),
        program: "0.1.0".to_owned(),
        started_at: at(started),
        environments: keys.iter().map(tended).collect(),
    }
}

/// A request that was acted on.
#[must_use]
pub fn answer(message: &str) -> RequestAnswer {
    RequestAnswer { accepted: true, message: message.to_owned(), answered_at: at(3), busy: false }
}

/// A message about something.
#[must_use]
pub fn message(topic: &str) -> OutboxMessage {
    OutboxMessage { topic: topic.to_owned(), body: serde_json::json!({ "about": topic }) }
}

/// An id that nothing has.
#[must_use]
pub fn unknown_release() -> ReleaseId {
    ReleaseId::new("rel_unknown").expect("samples have valid names")
}
