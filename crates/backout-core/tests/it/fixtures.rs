//! Releases, policies, situations and contexts that the tests share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backout_core::ids::{
    AppName, DeploymentId, EnvironmentKey, EnvironmentName, HostName, OperationId, RollbackId,
    ServiceName, Slot, Version,
};
use backout_core::model::{
    Artifact, Batch, CanaryPolicy, ComposeSpec, ConfigFile, FileKind, GitMove, GitSpec, HealthSpec,
    HostsPolicy, OnNoData, Policy, ProcessSpec, RELEASE_FORMAT, Release, ReleaseContent, Replicas,
    RestartPolicy, RollbackPolicy, RollbackType, RouterPolicy, ScriptSpec, Service, Shutdown,
    Stage, Strategy, Surface, SystemdBus, SystemdSpec, TargetKind, TargetSpec, Trigger,
};
use backout_core::plan::{Live, PlanContext, RollbackWish, Seen, Side, Situation};
use backout_core::ports::{Capabilities, Running};
use jiff::Timestamp;

/// A moment.
pub fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_760_000_000_000 + ms).unwrap()
}

/// `shop/production`.
pub fn key() -> EnvironmentKey {
    EnvironmentKey {
        app: AppName::new("shop").unwrap(),
        environment: EnvironmentName::new("production").unwrap(),
    }
}

/// A service's name.
pub fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

/// The services that a release has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `web`.
    Web,
    /// `web`, which needs the worker `jobs`.
    WebAndWorker,
}

/// What moves traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    None,
    Builtin,
    Script,
}

/// How a release replaces another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Recreate,
    /// Two hosts at a time, or two of three instances on one host.
    Rolling,
    BlueGreen,
    Canary,
}

/// Everything that a configuration decides for the planners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    pub target: TargetKind,
    pub routing: Routing,
    pub how: How,
    pub shape: Shape,
    /// This machine, or so many others.
    pub hosts: u8,
}

impl Setup {
    /// Those that a configuration may ask for.
    pub fn legal() -> Vec<Setup> {
        let (process, script, compose) =
            (TargetKind::Process, TargetKind::Script, TargetKind::Compose);
        let sorts = [
            (process, Routing::None, How::Recreate),
            (process, Routing::Builtin, How::Recreate),
            (process, Routing::Builtin, How::BlueGreen),
            (process, Routing::Builtin, How::Canary),
            (script, Routing::None, How::Recreate),
            (script, Routing::Script, How::Recreate),
            (script, Routing::Script, How::Canary),
            // Replaces in place and knows each side's address.
            (compose, Routing::None, How::Recreate),
            (compose, Routing::None, How::Rolling),
            // Replaces in place and has no address.
            (TargetKind::Git, Routing::None, How::Recreate),
        ];
        let shapes = [Shape::Web, Shape::WebAndWorker];
        let all = sorts.iter().flat_map(|(target, routing, how)| {
            let (target, routing, how) = (*target, *routing, *how);
            shapes.map(|shape| Setup { target, routing, how, shape, hosts: 0 })
        });
        all.chain(Self::on_hosts()).collect()
    }

    /// Other machines: all at once, and two at a time.
    pub fn on_hosts() -> [Setup; 2] {
        let (target, routing, shape) = (TargetKind::Script, Routing::None, Shape::WebAndWorker);
        [How::Recreate, How::Rolling].map(|how| Setup { target, routing, how, shape, hosts: 3 })
    }

    /// Where services run.
    pub fn host_names(self) -> Vec<HostName> {
        match self.hosts {
            0 => vec![HostName::local()],
            hosts => (1..=hosts).map(|n| HostName::new(format!("web{n}")).unwrap()).collect(),
        }
    }

    /// Its name in snapshots and failures.
    pub fn label(self) -> String {
        let shape = if self.shape == Shape::Web { "" } else { "_worker" };
        let (routing, how) = (format!("{:?}", self.routing), format!("{:?}", self.how));
        let hosts = if self.hosts == 0 { String::new() } else { format!("_{}_hosts", self.hosts) };
        format!("{}_{}_{}{shape}{hosts}", self.target.as_str(), routing, how).to_lowercase()
    }

    /// Old and new run at once while traffic moves.
    pub fn side_by_side(self) -> bool {
        self.routing != Routing::None && self.how != How::Recreate
    }

    /// A start replaces what runs.
    pub fn in_place(self) -> bool {
        self.capabilities().replaces_in_place
    }

    /// As the adapters answer.
    pub fn capabilities(self) -> Capabilities {
        let routed = self.routing != Routing::None;
        let (side_by_side, replaces_in_place) = match self.target {
            TargetKind::Process => (true, false),
            TargetKind::Script => {
                (self.routing == Routing::Script, self.routing != Routing::Script)
            }
            TargetKind::Compose | TargetKind::Systemd => (routed, !routed),
            TargetKind::Git => (false, true),
        };
        Capabilities {
            side_by_side,
            replaces_in_place,
            addressable: !matches!(self.target, TargetKind::Script | TargetKind::Git),
            sees_foreign: self.target != TargetKind::Process,
        }
    }

    /// How many instances each service has, where some of them are replaced at a time.
    pub fn instances(self) -> Option<u32> {
        let some = self.target == TargetKind::Compose && self.how == How::Rolling;
        some.then_some(3)
    }

    /// Its policy.
    pub fn policy(self) -> Policy {
        let stage =
            |weight| Stage { weight, hold_ms: 5_000, hold_min_ms: 5_000, hold_max_ms: 60_000 };
        Policy {
            production: false,
            target: self.target,
            strategy: match self.how {
                How::Recreate => Strategy::Recreate,
                How::Rolling => Strategy::Rolling { batch: Batch::Count(2), pause_ms: 1_000 },
                How::BlueGreen => Strategy::BlueGreen { keep_old_ms: 3_600_000 },
                How::Canary => Strategy::Canary(CanaryPolicy {
                    stages: vec![stage(10), stage(50), stage(100)],
                    on_no_data: OnNoData::Pause,
                }),
            },
            router: match self.routing {
                Routing::None => RouterPolicy::None,
                Routing::Builtin => RouterPolicy::Builtin {
                    listen: "127.0.0.1:8080".parse().unwrap(),
                    dead_man_ms: 15_000,
                },
                Routing::Script => RouterPolicy::Script,
            },
            shutdown: Shutdown { drain_ms: 30_000, grace_ms: 30_000 },
            deploy_timeout_ms: 1_800_000,
            bake_ms: 1_800_000,
            rollback: RollbackPolicy {
                automatic: true,
                deadline_ms: 120_000,
                timeout_ms: 900_000,
                keep: 5,
            },
            hosts: HostsPolicy {
                names: self.host_names(),
                confirm_ms: (self.hosts > 0).then_some(60_000),
                ..HostsPolicy::default()
            },
            judge: backout_judge::Settings::default(),
            secrets: Vec::new(),
        }
    }

    /// A release with one config file and, for processes, one kept artifact.
    pub fn release(self, version: &str) -> Arc<Release> {
        thread_local! {
            static MADE: std::cell::RefCell<BTreeMap<String, Arc<Release>>> = const { std::cell::RefCell::new(BTreeMap::new()) };
        }
        let label = format!("{:?} {:?} {:?} {version}", self.target, self.shape, self.instances());
        MADE.with_borrow_mut(|made| {
            Arc::clone(made.entry(label).or_insert_with(|| self.build_release(version)))
        })
    }

    fn build_release(self, version: &str) -> Arc<Release> {
        let mut services = BTreeMap::from([(name("web"), self.service("web", true, &["jobs"]))]);
        if self.shape == Shape::WebAndWorker {
            services.insert(name("jobs"), self.service("jobs", false, &[]));
        }
        release_of(version, services, self.target != TargetKind::Script)
    }

    /// A service of this setup's target.
    pub fn service(self, service: &str, traffic: bool, needs: &[&str]) -> Service {
        let target = match self.target {
            TargetKind::Process => TargetSpec::Process(ProcessSpec {
                command: vec!["{artifact}".to_owned()],
                env: BTreeMap::new(),
                workdir: String::new(),
                artifact: vec!["app".to_owned()],
                port: None,
                port_env: "PORT".to_owned(),
                restart: RestartPolicy::default(),
            }),
            TargetKind::Script => TargetSpec::Script(ScriptSpec {
                program: "deploy.sh".to_owned(),
                args: Vec::new(),
                timeout_ms: 60_000,
            }),
            TargetKind::Compose => TargetSpec::Compose(ComposeSpec {
                files: vec!["compose.yaml".to_owned()],
                env_files: Vec::new(),
                profiles: Vec::new(),
                env: BTreeMap::new(),
                project: "shop-production".to_owned(),
                images: BTreeMap::new(),
                port: None,
                timeout_ms: 60_000,
                services: vec![service.to_owned()],
                stop_grace_ms: 0,
                replicas: self.instances().map(|count| Replicas { count, at_most: None }),
            }),
            TargetKind::Systemd => TargetSpec::Systemd(SystemdSpec {
                unit: format!("{service}.service"),
                artifact: vec!["app".to_owned()],
                current: service.to_owned(),
                releases: "releases".to_owned(),
                port: None,
                bus: SystemdBus::System,
                root: None,
                timeout_ms: 60_000,
                files: Vec::new(),
            }),
            TargetKind::Git => TargetSpec::Git(GitSpec {
                repository: service.to_owned(),
                link: None,
                revision: "v1".to_owned(),
                by: GitMove::Checkout,
                submodules: false,
                remote: None,
                protocols: Vec::new(),
                push: None,
                last_stable: "last-stable".to_owned(),
                post_checkout: Vec::new(),
                timeout_ms: 60_000,
                commit: "0123456789012345678901234567890123456789".to_owned(),
            }),
        };
        let depends_on = needs.iter().map(|text| name(text)).collect();
        Service {
            name: name(service),
            depends_on,
            traffic,
            health: HealthSpec::default(),
            target,
            job: None,
        }
    }
}

/// A release of these services.
pub fn release_of(
    version: &str,
    services: BTreeMap<ServiceName, Service>,
    kept: bool,
) -> Arc<Release> {
    let artifact = |service: &ServiceName| Artifact {
        service: service.clone(),
        path: "app".to_owned(),
        digest: format!("sha256:{version}"),
        kept,
    };
    let content = ReleaseContent {
        format: RELEASE_FORMAT,
        app: key().app,
        version: Version::new(version).unwrap(),
        artifacts: services.keys().take(usize::from(kept)).map(artifact).collect(),
        services,
        config: vec![ConfigFile {
            path: ".env".to_owned(),
            kind: FileKind::File { blob: format!("sha256:env-{version}"), size: 3 },
            mode: 0o600,
            uid: 0,
            gid: 0,
            selinux: None,
            secrets: Vec::new(),
        }],
        origins: BTreeMap::new(),
    };
    let id = content.id();
    Arc::new(Release { id, content, created_at: at(0), created_by: "test".to_owned() })
}

/// A planning context with ids that tell the number.
pub fn context(setup: Setup, policy: &Policy, number: u64) -> PlanContext<'_> {
    PlanContext {
        operation: OperationId::new(format!("op_{number}")).unwrap(),
        deployment_id: DeploymentId::new(format!("dep_{number}")).unwrap(),
        rollback_id: RollbackId::new(format!("rb_{number}")).unwrap(),
        key: key(),
        number,
        policy,
        capabilities: setup.capabilities(),
        surface: Surface::Cli,
        requested_by: "ann".to_owned(),
        reason: None,
        forced: false,
        overrides: Vec::new(),
        now: at(0),
    }
}

/// A deployment as planners name it.
pub fn live(number: u64, release: &Release, slot: Slot) -> Live {
    let version = release.content.version.clone();
    Live { number, release: release.id.clone(), version, slot }
}

/// A side of which these services may run.
pub fn side(deployment: u64, release: &Arc<Release>, running: Running, services: &[&str]) -> Side {
    let services: BTreeSet<ServiceName> = services
        .iter()
        .map(|text| name(text))
        .filter(|service| release.content.services.contains_key(service))
        .collect();
    let release = Arc::clone(release);
    let (hosts, idle) = (BTreeMap::new(), BTreeSet::new());
    Side { deployment, release, running, services, hosts, idle }
}

/// A side with all of its services.
pub fn whole(deployment: u64, release: &Arc<Release>, running: Running) -> Side {
    let services = release.content.services.keys().cloned().collect();
    let (release, hosts) = (Arc::clone(release), BTreeMap::new());
    Side { deployment, release, running, services, hosts, idle: BTreeSet::new() }
}

/// Puts a side on hosts.
pub trait OnHosts {
    fn on(self, hosts: &[HostName]) -> Side;
}

impl OnHosts for Side {
    fn on(mut self, hosts: &[HostName]) -> Side {
        if hosts.iter().any(|host| !host.is_local()) {
            let hosts: BTreeSet<HostName> = hosts.iter().cloned().collect();
            self.hosts = self.services.iter().map(|name| (name.clone(), hosts.clone())).collect();
        }
        self
    }
}

/// A rollback as the way back of a failed deployment asks for it.
pub fn wish(release: &Arc<Release>, left: Option<Live>) -> RollbackWish {
    RollbackWish {
        release: Arc::clone(release),
        was_stable: true,
        left,
        reject_left: true,
        rollback_type: RollbackType::Automatic,
        untouched: BTreeSet::new(),
        begun: BTreeMap::new(),
        trigger: Trigger::Analysis,
        evidence: vec!["canary errors 4.8 %".to_owned()],
        services: Vec::new(),
        seen: Seen::default(),
    }
}

/// What there may be when an operation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing was ever deployed.
    NothingLive,
    /// #1 runs.
    LiveRuns,
    /// #1 was adopted: recorded, but not started by us.
    Adopted,
    /// #1 runs, and #2, which somebody gave up, lies in the other slot.
    Leftover,
    /// #2 is live and baking, #1 is still warm beside it.
    Baking,
}

impl Start {
    pub const ALL: [Start; 5] =
        [Start::NothingLive, Start::LiveRuns, Start::Adopted, Start::Leftover, Start::Baking];

    /// Whether a setup can come to this.
    pub fn fits(self, setup: Setup) -> bool {
        match self {
            Start::NothingLive | Start::LiveRuns | Start::Adopted => true,
            Start::Leftover => !setup.in_place(),
            Start::Baking => setup.side_by_side(),
        }
    }

    /// The word in snapshots.
    pub fn label(self) -> &'static str {
        match self {
            Start::NothingLive => "nothing_live",
            Start::LiveRuns => "live_runs",
            Start::Adopted => "adopted",
            Start::Leftover => "leftover",
            Start::Baking => "baking",
        }
    }

    /// The situation that planners see.
    pub fn situation(self, setup: Setup) -> Situation {
        let (one, two) = (setup.release("1"), setup.release("2"));
        let routed = setup.routing != Routing::None;
        let weights = |a, b| routed.then(|| BTreeMap::from([(Slot::A, a), (Slot::B, b)]));
        let seen = |number, release: &Arc<Release>| {
            whole(number, release, Running::Yes).on(&setup.host_names())
        };
        match self {
            Start::NothingLive => Situation::default(),
            Start::LiveRuns => Situation {
                live: Some(live(1, &one, Slot::A)),
                slots: BTreeMap::from([(Slot::A, seen(1, &one))]),
                weights: weights(100, 0),
            },
            Start::Adopted => Situation {
                live: Some(live(1, &one, Slot::A)),
                slots: if setup.capabilities().sees_foreign {
                    BTreeMap::from([(Slot::A, seen(1, &one))])
                } else {
                    BTreeMap::new()
                },
                weights: None,
            },
            Start::Leftover => Situation {
                live: Some(live(1, &one, Slot::A)),
                slots: BTreeMap::from([
                    (Slot::A, seen(1, &one)),
                    (Slot::B, side(2, &two, Running::Yes, &["web"])),
                ]),
                weights: if setup.side_by_side() { weights(90, 10) } else { weights(100, 0) },
            },
            Start::Baking => Situation {
                live: Some(live(2, &two, Slot::B)),
                slots: BTreeMap::from([
                    (Slot::A, side(1, &one, Running::Yes, &["web"])),
                    (Slot::B, seen(2, &two)),
                ]),
                weights: weights(0, 100),
            },
        }
    }
}
