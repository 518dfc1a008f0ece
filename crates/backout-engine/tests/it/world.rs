//! One environment with fakes for everything outside of the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ids::{Entropy, HostName, Slot, Unit};
use backout_core::model::{
    Batch, CanaryPolicy, CheckSchedule, Deployment, DeploymentFilter, HealthSpec, HostsPolicy,
    HttpCheck, OnNoData, Policy, ProbeSpec, RollbackPolicy, RouterPolicy, Service, Shutdown, Stage,
    Strategy, Surface, TargetKind, TargetSpec,
};
use backout_core::ports::{Capabilities, Holder, Ledger, SampleOutcome};
use backout_engine::{
    Context, DeployWish, EngineError, EventSink, Interrupt, Outcome, ProbePlan, Probes,
    RollbackTarget, RollbackWishes, deploy, rollback,
};
use backout_testkit::ledger::FakeLedger;
use backout_testkit::{
    FakeArtifacts, FakeConfigFiles, FakeProbe, FakeRouter, FakeTarget, fixtures,
};
use jiff::Timestamp;
use tokio::sync::watch;

/// Which strategy a world uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Recreate,
    /// In place on three hosts, two at a time.
    Rolling,
    BlueGreen,
    Canary,
}

impl How {
    pub const ALL: [How; 4] = [How::Recreate, How::Rolling, How::BlueGreen, How::Canary];

    /// Users come in through the router.
    fn is_routed(self) -> bool {
        matches!(self, How::BlueGreen | How::Canary)
    }
}

pub struct World {
    pub how: How,
    pub ledger: Arc<FakeLedger>,
    pub target: FakeTarget,
    pub router: FakeRouter,
    pub probe: FakeProbe,
    pub artifacts: FakeArtifacts,
    pub config_files: FakeConfigFiles,
    pub interrupt: watch::Sender<Interrupt>,
    pub automatic: bool,
    pub on_no_data: OnNoData,
    pub hosts: HostsPolicy,
}

struct OneProbe(FakeProbe);

#[async_trait]
impl Probes for OneProbe {
    fn for_unit(&self, _unit: &Unit, service: &Service) -> Vec<ProbePlan> {
        let schedule = *service.health.probes[0].schedule();
        vec![ProbePlan { probe: Arc::new(self.0.clone()), schedule, names_a_side: true }]
    }
}

/// `web1`, `web2` and so on.
pub fn on_hosts(count: usize) -> Vec<HostName> {
    (1..=count).map(|n| HostName::new(format!("web{n}")).unwrap()).collect()
}

fn entropy() -> Entropy {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut bytes = Entropy::default();
    bytes[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes
}

/// A wall clock that runs with tokio's paused one.
fn clock() -> Timestamp {
    thread_local! {
        static BEGAN: tokio::time::Instant = tokio::time::Instant::now();
    }
    let elapsed = BEGAN.with(tokio::time::Instant::elapsed);
    let ms = i64::try_from(elapsed.as_millis()).unwrap();
    Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
}

impl World {
    pub async fn new(how: How) -> Self {
        let ledger = Arc::new(FakeLedger::new());
        let id = ledger.id().await.unwrap();
        let artifacts = FakeArtifacts::new();
        artifacts.put("bin/web", b"the program", true);
        let router = FakeRouter::new(id.clone());
        router.needs_dead_man();
        let mut target = FakeTarget::new(id);
        let mut hosts = HostsPolicy::default();
        if how == How::Rolling {
            target = target.with_capabilities(Capabilities {
                side_by_side: false,
                replaces_in_place: true,
                addressable: false,
                sees_foreign: false,
            });
            hosts = HostsPolicy { names: on_hosts(3), at_once: 10, jitter_ms: 50, ..hosts };
        }
        Self {
            how,
            hosts,
            ledger,
            target,
            router,
            probe: FakeProbe::new("http"),
            artifacts,
            config_files: FakeConfigFiles::new(),
            interrupt: watch::channel(Interrupt::None).0,
            automatic: true,
            on_no_data: OnNoData::Promote,
        }
    }

    fn policy(&self) -> Policy {
        let stage =
            |weight| Stage { weight, hold_ms: 2_000, hold_min_ms: 2_000, hold_max_ms: 4_000 };
        let stages = vec![stage(10), stage(50), stage(100)];
        let listen: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let judge =
            backout_judge::Settings { consecutive_passes: 2, ..backout_judge::Settings::default() };
        Policy {
            production: false,
            target: TargetKind::Process,
            strategy: match self.how {
                How::Recreate => Strategy::Recreate,
                How::Rolling => Strategy::Rolling { batch: Batch::Count(2), pause_ms: 1_000 },
                How::BlueGreen => Strategy::BlueGreen { keep_old_ms: 0 },
                How::Canary => {
                    Strategy::Canary(CanaryPolicy { stages, on_no_data: self.on_no_data })
                }
            },
            router: match self.how {
                How::Recreate | How::Rolling => RouterPolicy::None,
                _ => RouterPolicy::Builtin { listen, dead_man_ms: 15_000 },
            },
            shutdown: Shutdown { drain_ms: 1_000, grace_ms: 1_000 },
            deploy_timeout_ms: 1_800_000,
            bake_ms: 3_000,
            rollback: RollbackPolicy {
                automatic: self.automatic,
                deadline_ms: 10_000,
                timeout_ms: 900_000,
                keep: 5,
            },
            judge,
            secrets: vec!["API_KEY".to_owned()],
            hosts: self.hosts.clone(),
        }
    }

    fn service() -> Service {
        let mut process = fixtures::process(["{artifact}"]);
        process.artifact = vec!["bin/web".to_owned()];
        let schedule = CheckSchedule { rollout_interval_ms: 500, ..CheckSchedule::default() };
        let check = HttpCheck {
            url: "http://127.0.0.1:{port}/health".to_owned(),
            required_fields: Vec::new(),
        };
        Service {
            name: fixtures::web(),
            depends_on: BTreeSet::new(),
            traffic: true,
            health: HealthSpec { probes: vec![ProbeSpec::Http { check, schedule }] },
            job: None,
            target: TargetSpec::Process(process),
        }
    }

    /// A new process of the command line, with what it needs.
    pub fn context(&self, activity: &str) -> Context {
        let person = matches!(activity, "rollback" | "down" | "abort");
        self.context_of(self.ledger.holder(activity, person))
    }

    pub fn context_of(&self, holder: Holder) -> Context {
        let service = Self::service();
        let with_router = self.how.is_routed();
        Context {
            key: fixtures::key(),
            folder: "/srv/shop".to_owned(),
            policy: self.policy(),
            services: BTreeMap::from([(service.name.clone(), service)]),
            config_globs: vec!["*.conf".to_owned()],
            secrets: Arc::default(),
            ledger: self.ledger.clone(),
            target: Arc::new(self.target.clone()),
            router: with_router
                .then(|| Arc::new(self.router.clone()) as Arc<dyn backout_core::ports::Router>),
            probes: Arc::new(OneProbe(self.probe.clone())),
            artifacts: Arc::new(self.artifacts.clone()),
            config_files: Arc::new(self.config_files.clone()),
            incidents: None,
            holder,
            requested_by: "ann@host".to_owned(),
            surface: Surface::Cli,
            events: EventSink::default(),
            interrupt: self.interrupt.subscribe(),
            entropy,
            clock,
        }
    }

    pub fn wish(version: &str) -> DeployWish {
        DeployWish {
            version: fixtures::version(version),
            reason: None,
            config: None,
            overrides: Vec::new(),
            services: Vec::new(),
        }
    }

    pub fn back() -> RollbackWishes {
        RollbackWishes {
            target: RollbackTarget::LastKnownGood,
            reason: Some("it hurts".to_owned()),
            forced: true,
            skip_validation: false,
            overrides: Vec::new(),
            services: Vec::new(),
        }
    }

    pub async fn deploy(&self, version: &str) -> Result<Outcome, EngineError> {
        deploy(&self.context("deploy"), &Self::wish(version)).await
    }

    pub async fn rollback(&self) -> Result<Outcome, EngineError> {
        rollback(&self.context("rollback"), &Self::back()).await
    }

    /// All checks of a version fail from now on.
    pub fn is_bad(&self, version: &str) {
        self.probe
            .answer(&fixtures::version(version), SampleOutcome::Fail("it answers 500".to_owned()));
    }

    pub async fn history(&self) -> Vec<Deployment> {
        self.ledger.deployments(&fixtures::key(), &DeploymentFilter::default()).await.unwrap()
    }

    pub async fn row(&self, number: u64) -> Deployment {
        self.ledger.deployment(&fixtures::key(), number).await.unwrap().unwrap()
    }

    pub async fn live(&self) -> Option<u64> {
        self.ledger.environment(&fixtures::key()).await.unwrap().and_then(|row| row.live)
    }

    /// Versions that run, by slot; of several hosts one for all where they agree.
    pub fn running(&self) -> Vec<String> {
        let of = |slot: Slot| {
            let mut on: Vec<Option<String>> = self.running_in(slot);
            on.dedup();
            match &on[..] {
                [one] => one.clone().into_iter().collect(),
                _ => vec![format!("{on:?}")],
            }
        };
        Slot::BOTH.into_iter().flat_map(of).collect()
    }

    /// Versions that run in a slot, host by host.
    pub fn running_in(&self, slot: Slot) -> Vec<Option<String>> {
        let unit = |host: &HostName| Unit { host: host.clone(), ..fixtures::unit(slot) };
        let version = |host| Some(self.target.running(&unit(host))?.0.to_string());
        self.hosts.names.iter().map(version).collect()
    }

    /// The version that users get now: all of them, or nobody.
    pub fn serving(&self) -> Option<String> {
        if !self.how.is_routed() {
            return self.running().first().cloned();
        }
        let weights = self.router.weights();
        let slot = weights.iter().find(|(_, weight)| **weight == 100).map(|(slot, _)| *slot)?;
        self.target.running(&fixtures::unit(slot)).map(|(version, _)| version.to_string())
    }

    /// Nothing that a correct engine never does was done.
    pub fn assert_clean(&self) {
        self.target.assert_clean();
        self.router.assert_clean();
    }
}
