//! Small values that many tests need.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backout_core::ids::{
    AppName, EnvironmentKey, EnvironmentName, HostName, LedgerId, OperationId, ServiceName, Slot,
    Unit, Version,
};
use backout_core::model::{
    HealthSpec, ProcessSpec, RELEASE_FORMAT, Release, ReleaseContent, RestartPolicy, Service,
    TargetSpec,
};
use backout_core::ports::{ProbeSubject, Secret, StepCx};
use jiff::Timestamp;

/// App `shop`, environment `production`.
///
/// # Panics
/// Never: the names are valid.
#[must_use]
pub fn key() -> EnvironmentKey {
    EnvironmentKey {
        app: AppName::new("shop").expect("a valid name"),
        environment: EnvironmentName::new("production").expect("a valid name"),
    }
}

/// The service `web`.
///
/// # Panics
/// Never: the name is valid.
#[must_use]
pub fn web() -> ServiceName {
    ServiceName::new("web").expect("a valid name")
}

/// `web` on this machine.
#[must_use]
pub fn unit(slot: Slot) -> Unit {
    Unit { key: key(), service: web(), host: HostName::local(), slot }
}

/// A ledger id that ends in `name`.
///
/// # Panics
/// If `name` is no valid part of an id.
#[must_use]
pub fn ledger(name: &str) -> LedgerId {
    LedgerId::new(format!("led_{name}")).expect("a valid id")
}

/// A version label.
///
/// # Panics
/// If the label is not valid.
#[must_use]
pub fn version(label: &str) -> Version {
    Version::new(label).expect("a valid version")
}

/// A release of `web` alone.
#[must_use]
pub fn release(label: &str, target: TargetSpec) -> Arc<Release> {
    let service = Service {
        name: web(),
        depends_on: [].into(),
        traffic: true,
        health: HealthSpec::default(),
        job: None,
        target,
    };
    let content = ReleaseContent {
        format: RELEASE_FORMAT,
        app: key().app,
        version: version(label),
        services: BTreeMap::from([(web(), service)]),
        artifacts: Vec::new(),
        config: Vec::new(),
        origins: BTreeMap::new(),
    };
    release_of(content)
}

/// A release with this content.
#[must_use]
pub fn release_of(content: ReleaseContent) -> Arc<Release> {
    Arc::new(Release {
        id: content.id(),
        content,
        created_at: Timestamp::UNIX_EPOCH,
        created_by: "tests".to_owned(),
    })
}

/// A process definition that runs this command and nothing else.
#[must_use]
pub fn process<S: Into<String>>(command: impl IntoIterator<Item = S>) -> ProcessSpec {
    ProcessSpec {
        command: command.into_iter().map(Into::into).collect(),
        env: BTreeMap::new(),
        workdir: String::new(),
        artifact: Vec::new(),
        port: None,
        port_env: "PORT".to_owned(),
        restart: RestartPolicy::default(),
    }
}

/// A step's context: first attempt, epoch 1, 30 s.
///
/// # Panics
/// Never: the ids are valid.
#[must_use]
pub fn step_cx(step: &str) -> StepCx {
    StepCx {
        operation: OperationId::new("op_test").expect("a valid id"),
        step_id: format!("op_test/{step}"),
        attempt: 1,
        epoch: 1,
        timeout: Duration::from_secs(30),
        deployment: 1,
        from_version: None,
        reason: String::new(),
        secrets: Arc::default(),
    }
}

/// The same with secrets.
#[must_use]
pub fn with_secrets(cx: StepCx, secrets: &[(&str, &str)]) -> StepCx {
    let secrets =
        secrets.iter().map(|(k, v)| ((*k).to_owned(), Secret::new((*v).to_owned()))).collect();
    StepCx { secrets: Arc::new(secrets), ..cx }
}

/// A check of `web` in slot `a` with this release, 2 s and no retries.
#[must_use]
pub fn subject(release: &Release, address: Option<std::net::SocketAddr>) -> ProbeSubject {
    ProbeSubject {
        unit: unit(Slot::A),
        address,
        version: release.content.version.clone(),
        release: release.id.clone(),
        timeout: Duration::from_secs(2),
        retries: 0,
    }
}
