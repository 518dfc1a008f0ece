//! The words of the specification as types.

mod config_file;
mod controller;
mod deployment;
mod drill;
pub(crate) mod environment;
mod git;
mod health;
mod metric;
mod policy;
mod release;
mod request;
mod rollback;
mod systemd;
mod target;
mod trip;
mod words;

pub use config_file::{
    ConfigFile, FileKind, MaskedFile, mask_secrets, secret_values, unmask_secrets,
};
pub use controller::{ControllerBeat, Tended};
pub use deployment::{Deployment, DeploymentFilter};
pub use drill::{DRILLS_MAX, DrillRecord};
pub use environment::{
    EnvironmentRecord, LiveHealth, ReadinessCheck, ReadinessReport, Severity, SlotRecord, SlotState,
};
pub use git::{GitLink, GitMove, GitPush, GitSpec};
pub use health::{CheckSchedule, HealthSpec, HttpCheck, ProbeSpec};
pub use metric::{Measure, MetricsSpec, RequestsSpec, SeriesSpec};
pub use policy::{
    Batch, CanaryPolicy, HostsPolicy, OnNoData, Policy, RollbackPolicy, RouterPolicy, Shutdown,
    Stage, Strategy,
};
pub use release::{
    Artifact, JobSpec, MIXED_RELEASE_FORMAT, Origin, RELEASE_FORMAT, Release, ReleaseContent,
    Service,
};
pub use request::{DeployOrder, Request, RequestAnswer, RequestKind};
pub use rollback::{RollbackRecord, StepRecord};
pub use systemd::{SystemdBus, SystemdSpec, UnitFile};
pub use target::{
    ComposeSpec, EnvValue, PortSpec, ProcessSpec, ReplicaBatch, Replicas, RestartPolicy,
    ScriptSpec, TargetKind, TargetSpec,
};
pub use trip::{TripRule, judge_of_watch};
pub use words::{
    DeploymentKind, DeploymentStatus, Health, OperationKind, RollbackStatus, RollbackType, Surface,
    Trigger,
};
