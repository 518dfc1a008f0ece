//! What a run of the engine is given: settings, ports, who asks, and where events go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ids::{Entropy, EnvironmentKey, ServiceName, Unit};
use backout_core::model::{CheckSchedule, MetricsSpec, OperationKind, Policy, Service, Surface};
use backout_core::ports::{
    ArtifactStore, ConfigFiles, Holder, Ledger, MetricSource, Probe, Router, Secrets, Synthetic,
    Target,
};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::events::EventSink;

/// What a signal or a person at the terminal wants of a running operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// Nothing yet.
    None,
    /// A signal: abort during stages, stop watching during bake, finish a rollback.
    Signal,
    /// A person chose to abort.
    Abort,
    /// Whoever comes next goes on with it: leave at the next safe point.
    HandOver {
        /// A way back too; else it is finished first.
        rollbacks: bool,
    },
}

/// A probe with its schedule.
#[derive(Clone)]
pub struct ProbePlan {
    /// The probe.
    pub probe: Arc<dyn Probe>,
    /// When it runs.
    pub schedule: CheckSchedule,
    /// It can tell this side from the other. One that can't judges the service as a whole.
    pub names_a_side: bool,
}

/// A source of metrics, and what it is asked for.
#[derive(Clone)]
pub struct MetricPlan {
    /// The source.
    pub source: Arc<dyn MetricSource>,
    /// What and when.
    pub asked: MetricsSpec,
}

/// Requests of our own.
#[derive(Clone)]
pub struct SyntheticPlan {
    /// Sends them.
    pub sender: Arc<dyn Synthetic>,
    /// From one to the next.
    pub interval_ms: u64,
}

/// Makes the probes of a service; only the registry knows concrete ones.
#[async_trait]
pub trait Probes: Send + Sync {
    /// All probes of a service in a unit; at least one.
    fn for_unit(&self, unit: &Unit, service: &Service) -> Vec<ProbePlan>;

    /// Sources of metrics of a service.
    fn metrics(&self, service: &ServiceName) -> Vec<MetricPlan> {
        let _ = service;
        Vec::new()
    }

    /// Requests of our own to a service that takes traffic.
    fn synthetic(&self, service: &ServiceName) -> Option<SyntheticPlan> {
        let _ = service;
        None
    }
}

/// Everything that a run needs.
#[derive(Clone)]
pub struct Context {
    /// App and environment.
    pub key: EnvironmentKey,
    /// Folder of `backout.yaml`, absolute, for people and for the record.
    pub folder: String,
    /// Today's rules.
    pub policy: Policy,
    /// Today's services.
    pub services: BTreeMap<ServiceName, Service>,
    /// Today's globs of config files.
    pub config_globs: Vec<String>,
    /// Today's values of secret keys.
    pub secrets: Secrets,
    /// The store.
    pub ledger: Arc<dyn Ledger>,
    /// What runs services.
    pub target: Arc<dyn Target>,
    /// What moves traffic.
    pub router: Option<Arc<dyn Router>>,
    /// What checks health.
    pub probes: Arc<dyn Probes>,
    /// Copies of artifacts.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// Config files on disk.
    pub config_files: Arc<dyn ConfigFiles>,
    /// Where incident bundles are kept; none: nowhere.
    pub incidents: Option<std::path::PathBuf>,
    /// This process.
    pub holder: Holder,
    /// Who asks: `user@host`.
    pub requested_by: String,
    /// Through which door.
    pub surface: Surface,
    /// Where progress goes.
    pub events: EventSink,
    /// Signals.
    pub interrupt: watch::Receiver<Interrupt>,
    /// New random bytes.
    pub entropy: fn() -> Entropy,
    /// The wall clock: for people, records and the judge, never for leases.
    pub clock: fn() -> Timestamp,
}

impl Context {
    /// Whether an operation of this kind is to be left to whoever comes next.
    pub(crate) fn hands_over(&self, kind: OperationKind) -> bool {
        match *self.interrupt.borrow() {
            Interrupt::HandOver { rollbacks } => rollbacks || kind != OperationKind::Rollback,
            Interrupt::None | Interrupt::Signal | Interrupt::Abort => false,
        }
    }

    /// The wall clock: for people and records.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The longest that nothing is heard of a healthy check, milliseconds: two intervals of the slowest.
    pub(crate) fn fresh_for(&self, rollout: bool) -> Duration {
        let slowest_ms = self
            .services
            .values()
            .flat_map(|service| &service.health.probes)
            .map(|probe| {
                let schedule = probe.schedule();
                if rollout { schedule.rollout_interval_ms } else { schedule.interval_ms }
            })
            .max()
            .unwrap_or(if rollout { 1_000 } else { CheckSchedule::default().interval_ms });
        Duration::from_millis(2 * slowest_ms)
    }
}
