//! The records of one deployment of the made-up history.

use std::collections::{BTreeMap, BTreeSet};

use backout_core::ids::{
    DeploymentId, Entropy, HostName, OperationId, ReleaseId, RollbackId, ServiceName, Slot, Version,
};
use backout_core::model::{
    CheckSchedule, Deployment, DeploymentKind, DeploymentStatus, EnvironmentRecord, Health,
    HealthSpec, HttpCheck, OperationKind, PortSpec, ProbeSpec, ProcessSpec, RELEASE_FORMAT,
    Release, ReleaseContent, RestartPolicy, RollbackRecord, RollbackStatus, RollbackType, Service,
    SlotRecord, SlotState, Surface, TargetSpec, Trigger,
};
use backout_core::plan::{
    Action, Live, Nature, PLAN_FORMAT, Phase, Plan, Step, TrafficStep, WatchMode,
};
use backout_core::ports::{Change, Commit, Lease};
use backout_core::saga::{ENTRY_FORMAT, Ending, Entry, EntryKind};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// What all records of one deployment share.
pub(super) struct History<'a> {
    pub lease: &'a Lease,
    pub by: &'static str,
    pub now: Timestamp,
}

impl History<'_> {
    /// One finished deployment. Of ten, the ninth is bad and the tenth takes it back.
    pub(super) fn deployment(
        &self,
        environment: &mut EnvironmentRecord,
        first: u64,
        number: u64,
    ) -> Commit {
        let is_rollback = number.is_multiple_of(10) && number >= first + 2;
        let is_bad = number % 10 == 9;
        let release = self.release(if is_rollback { number - 2 } else { number });
        let from = environment.live.map(|live| self.live(live));
        let plan = self.plan(number, is_rollback, &release, from);
        let deployment = Deployment {
            status: if is_bad { DeploymentStatus::RolledBack } else { DeploymentStatus::Stable },
            rejected: is_bad,
            ..self.row(&plan, &release)
        };
        environment.live = Some(number);
        environment.next_number = number + 1;
        let version = release.content.version.clone();
        let slot = SlotRecord {
            deployment: number,
            release: release.id.clone(),
            version,
            state: SlotState::Running,
            services: BTreeSet::from([service()]),
            hosts: BTreeMap::new(),
        };
        environment.slots = BTreeMap::from([(plan.slot, slot)]);
        let rollback = is_rollback.then(|| self.rollback(&plan, &deployment));
        let operation = plan.operation.clone();
        let entries = self.entries(&plan);
        let mut changes = vec![Change::Open(Box::new(plan)), Change::Release(Box::new(release))];
        changes.push(Change::Deployment(Box::new(deployment)));
        changes.extend(rollback.map(|record| Change::Rollback(Box::new(record))));
        changes.push(Change::Environment(Box::new(environment.clone())));
        changes.push(Change::Close);
        Commit { operation, expected_sequence: 0, entries, changes }
    }

    /// The first deployment, cut off in its third step.
    pub(super) fn interrupted(&self, environment: &mut EnvironmentRecord) -> Commit {
        let mut commit = self.deployment(environment, 1, 1);
        environment.live = None;
        environment.slots.clear();
        // Claimed, two steps whole, and the intent of the third.
        commit.entries.truncate(6);
        commit.changes.retain(|change| !matches!(change, Change::Close));
        for change in &mut commit.changes {
            match change {
                Change::Deployment(deployment) => {
                    deployment.status = DeploymentStatus::InProgress;
                    deployment.completed_at = None;
                    deployment.stable_at = None;
                }
                Change::Environment(record) => **record = environment.clone(),
                _ => {}
            }
        }
        commit
    }

    fn entropy(&self, what: &str, number: u64) -> Entropy {
        let digest = Sha256::digest(format!("{what} {} {number}", self.lease.key));
        let mut entropy = Entropy::default();
        let length = entropy.len();
        entropy.copy_from_slice(&digest[..length]);
        entropy
    }

    fn live(&self, number: u64) -> Live {
        let release = self.release(number);
        Live {
            number,
            release: release.id,
            version: release.content.version,
            slot: slot_of(number),
        }
    }

    fn release(&self, number: u64) -> Release {
        let name = service();
        let service = Service {
            name: name.clone(),
            depends_on: BTreeSet::new(),
            traffic: true,
            health: HealthSpec {
                probes: vec![ProbeSpec::Http {
                    check: HttpCheck {
                        url: "http://127.0.0.1:{port}/health".to_owned(),
                        required_fields: vec![],
                    },
                    schedule: CheckSchedule::default(),
                }],
            },
            job: None,
            target: TargetSpec::Process(ProcessSpec {
                command: vec!["{artifact}/web".to_owned(), "--port={port}".to_owned()],
                env: BTreeMap::new(),
                workdir: ".".to_owned(),
                artifact: vec!["build/web".to_owned()],
                port: Some(PortSpec::Auto),
                port_env: "PORT".to_owned(),
                restart: RestartPolicy::default(),
            }),
        };
        let content = ReleaseContent {
            format: RELEASE_FORMAT,
            app: self.lease.key.app.clone(),
            version: version(number),
            services: BTreeMap::from([(name, service)]),
            artifacts: vec![],
            config: vec![],
            origins: BTreeMap::new(),
        };
        Release { id: content.id(), content, created_at: self.now, created_by: self.by.to_owned() }
    }

    fn plan(&self, number: u64, is_rollback: bool, release: &Release, from: Option<Live>) -> Plan {
        Plan {
            format: PLAN_FORMAT,
            operation: OperationId::from_entropy(self.entropy("op", number)),
            kind: if is_rollback { OperationKind::Rollback } else { OperationKind::Deploy },
            key: self.lease.key.clone(),
            deployment: Some(number),
            deployment_id: Some(DeploymentId::from_entropy(self.entropy("dep", number))),
            rollback_id: is_rollback.then(|| RollbackId::from_entropy(self.entropy("rb", number))),
            release: Some(release.id.clone()),
            version: Some(release.content.version.clone()),
            services: Vec::new(),
            slot: slot_of(number),
            from,
            left: None,
            reject_left: is_rollback,
            target_was_stable: is_rollback,
            rollback_type: is_rollback.then_some(RollbackType::Automatic),
            trigger: is_rollback.then_some(Trigger::Analysis),
            surface: Surface::Cli,
            requested_by: self.by.to_owned(),
            reason: None,
            forced: false,
            overrides: vec![],
            evidence: vec![],
            warnings: vec![],
            work_timeout_ms: 1_800_000,
            strategy: "canary".to_owned(),
            automatic_rollback: true,
            planned_at: self.now,
            live_at: Some(LIVE_AT),
            steps: steps(&release.id, number),
        }
    }

    fn row(&self, plan: &Plan, release: &Release) -> Deployment {
        let is_rollback = plan.kind == OperationKind::Rollback;
        Deployment {
            id: DeploymentId::from_entropy(
                self.entropy("dep", plan.deployment.unwrap_or_default()),
            ),
            key: plan.key.clone(),
            number: plan.deployment.unwrap_or_default(),
            kind: if is_rollback { DeploymentKind::Rollback } else { DeploymentKind::Deploy },
            release: release.id.clone(),
            version: release.content.version.clone(),
            from_version: plan.from.as_ref().map(|live| live.version.clone()),
            from_number: plan.from.as_ref().map(|live| live.number),
            status: DeploymentStatus::Stable,
            rejected: false,
            slot: plan.slot,
            rollback_type: plan.rollback_type,
            trigger: plan.trigger,
            surface: plan.surface,
            reason: plan.reason.clone(),
            requested_by: plan.requested_by.clone(),
            forced: false,
            operation: plan.operation.clone(),
            started_at: self.now,
            completed_at: Some(self.now),
            stable_at: Some(self.now),
            health: Health::Healthy,
            error_message: None,
            warnings: vec![],
            services: Vec::new(),
        }
    }

    fn rollback(&self, plan: &Plan, deployment: &Deployment) -> RollbackRecord {
        RollbackRecord {
            id: RollbackId::from_entropy(self.entropy("rb", deployment.number)),
            key: plan.key.clone(),
            operation: plan.operation.clone(),
            deployment_from: deployment.from_number,
            deployment_to: deployment.number,
            from_version: deployment.from_version.clone(),
            target_version: deployment.version.clone(),
            rollback_type: RollbackType::Automatic,
            services: Vec::new(),
            trigger: Trigger::Analysis,
            surface: plan.surface,
            status: RollbackStatus::Completed,
            reason: None,
            requested_by: plan.requested_by.clone(),
            forced: false,
            overrides: vec![],
            resources_deleted: vec![],
            previous_state_version: deployment.from_number,
            changes_reverted: vec!["traffic".to_owned(), "release".to_owned()],
            data_preserved: true,
            health: BTreeMap::from([(service().to_string(), Health::Healthy)]),
            steps: vec![],
            evidence: vec![
                "canary errors 4.8 % of 312 requests, baseline 0.1 % of 5930".to_owned(),
            ],
            warnings: vec![],
            error_message: None,
            started_at: self.now,
            traffic_safe_at: Some(self.now),
            completed_at: Some(self.now),
            duration_ms: Some(1840),
            created_at: self.now,
            updated_at: self.now,
            notification_sent: false,
        }
    }

    fn entries(&self, plan: &Plan) -> Vec<Entry> {
        let mut kinds = vec![EntryKind::Claimed { holder: self.by.to_owned() }];
        for step in 0..plan.steps.len() {
            kinds.push(EntryKind::StepStarted { step, attempt: 1 });
            kinds.push(EntryKind::StepDone {
                step,
                adopted: false,
                receipt: backout_core::ports::Receipt::default(),
            });
        }
        kinds.push(EntryKind::Ended { ending: Ending::Done { healthy: true } });
        let entry =
            |kind| Entry { format: ENTRY_FORMAT, at: self.now, epoch: self.lease.epoch, kind };
        kinds.into_iter().map(entry).collect()
    }
}

fn service() -> ServiceName {
    ServiceName::new("web").expect("a valid name")
}

fn version(number: u64) -> Version {
    Version::new(format!("1.{}.{}", number / 100, number % 100))
        .expect("digits and dots are a valid version")
}

fn slot_of(number: u64) -> Slot {
    if number.is_multiple_of(2) { Slot::A } else { Slot::B }
}

/// Index of the step that sends all traffic to the new side.
const LIVE_AT: usize = 5;

fn steps(release: &ReleaseId, deployment: u64) -> Vec<Step> {
    let (slot, rest) = (slot_of(deployment), slot_of(deployment).other());
    let (service, host) = (service(), HostName::local());
    let traffic = |percent: u8| {
        let stage = format!("stage {percent}");
        let rest = (percent < 100).then_some(rest);
        Action::SetTraffic(TrafficStep {
            side: slot,
            percent,
            rest,
            dead_man: true,
            trip: None,
            gate: true,
            cut: false,
            stage,
        })
    };
    let watch = |mode| Action::Watch { mode, side: slot, baseline: Some(rest), hosts: Vec::new() };
    let start = Action::Start {
        service: service.clone(),
        host: host.clone(),
        slot,
        release: release.clone(),
        deployment,
        restore: false,
        revert: None,
        batch: None,
    };
    let actions = [
        ("snapshot", Phase::Data, Action::Snapshot),
        ("pin_artifacts", Phase::Code, Action::PinArtifacts { release: release.clone() }),
        ("start", Phase::Start, start),
        ("ready", Phase::Start, watch(WatchMode::Ready { passes: 3, hold_ms: 0 })),
        ("shift_traffic", Phase::Code, traffic(10)),
        ("shift_traffic", Phase::Code, traffic(100)),
        ("bake", Phase::Start, watch(WatchMode::Bake { bake_ms: 1_800_000, passes: 3 })),
        ("stop", Phase::Stop, Action::Stop { service, host, slot: rest, release: release.clone() }),
    ];
    let step = |(ordinal, (name, phase, action)): (usize, (&str, Phase, Action))| Step {
        key: format!("{ordinal:02}-{name}-web@local"),
        name: name.to_owned(),
        phase,
        subject: "web@local".to_owned(),
        before: String::new(),
        after: String::new(),
        action,
        compensation: None,
        nature: Nature::Compensatable,
        timeout_ms: 60_000,
        max_attempts: 3,
        wave: None,
    };
    actions.into_iter().enumerate().map(step).collect()
}
