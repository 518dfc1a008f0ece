//! A shop whose operations run in no time: plans by the planners, rows by the journal, and every moment fixed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backout_core::ids::{
    DeploymentId, EnvironmentKey, HostName, OperationId, RollbackId, ServiceName, Slot, Version,
};
use backout_core::model::{
    Deployment, EnvironmentRecord, Health, LiveHealth, MIXED_RELEASE_FORMAT, Origin, Policy,
    ReadinessCheck, ReadinessReport, Release, ReleaseContent, RollbackType, Service, Severity,
    Surface, Trigger,
};
use backout_core::plan::{
    Action, Live, Plan, PlanContext, RollbackWish, Seen, Side, Situation, plan_deploy,
    plan_rollback,
};
use backout_core::ports::{Capabilities, ErrorClass, Receipt, Running};
use backout_core::saga::{
    ENTRY_FORMAT, Ending, Entry, EntryKind, Failure, fold, on_end, on_progress, opening,
};
use backout_engine::{Finished, Outcome, TrafficView, View};
use jiff::{SignedDuration, Timestamp};

use crate::config::{self, Settings};

/// The first moment.
fn begin() -> Timestamp {
    "2026-11-20T03:12:00Z".parse().unwrap()
}

/// What has happened so far.
pub struct Shop {
    settings: Settings,
    capabilities: Capabilities,
    pub environment: EnvironmentRecord,
    pub rows: BTreeMap<u64, Deployment>,
    releases: BTreeMap<String, Arc<Release>>,
    pub now: Timestamp,
}

/// An operation with its journal.
pub struct Ran {
    pub plan: Plan,
    pub entries: Vec<Entry>,
    pub finished: Finished,
}

impl Shop {
    /// From a `backout.yaml`; services run beside each other, or are replaced in place.
    pub fn new(yaml: &str, beside: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backout.yaml");
        std::fs::write(&file, yaml).unwrap();
        let loaded = config::load(&file, None, &|_| None).unwrap_or_else(|e| panic!("{e}"));
        let key = loaded.settings.key.clone();
        Self {
            settings: loaded.settings,
            capabilities: Capabilities {
                side_by_side: beside,
                replaces_in_place: !beside,
                addressable: beside,
                sees_foreign: !beside,
            },
            environment: EnvironmentRecord::new(key),
            rows: BTreeMap::new(),
            releases: BTreeMap::new(),
            now: begin(),
        }
    }

    pub fn key(&self) -> &EnvironmentKey {
        &self.settings.key
    }

    fn policy(&self) -> &Policy {
        &self.settings.policy
    }

    /// A release with some services from others: `web` of `live`, say.
    pub fn release(&mut self, version: &str, kept: &[&str]) -> Arc<Release> {
        let services: BTreeMap<ServiceName, Service> = self.settings.services.clone();
        let live = self.live().map(|live| self.releases[live.release.as_str()].clone());
        let origin = |text: &&str| {
            let (name, live) = (name(text), live.as_ref().unwrap());
            let of = Origin {
                release: live.runs_as(&name).clone(),
                version: live.content.version_of(&name).clone(),
            };
            (name, of)
        };
        let origins: BTreeMap<ServiceName, Origin> = kept.iter().map(origin).collect();
        let content = ReleaseContent {
            format: if origins.is_empty() { 1 } else { MIXED_RELEASE_FORMAT },
            app: self.key().app.clone(),
            version: Version::new(version).unwrap(),
            artifacts: Vec::new(),
            services,
            config: Vec::new(),
            origins,
        };
        let release = Arc::new(Release {
            id: content.id(),
            content,
            created_at: self.now,
            created_by: "ann@build1".to_owned(),
        });
        self.releases.insert(release.id.to_string(), release.clone());
        release
    }

    fn live(&self) -> Option<Live> {
        let row = &self.rows[&self.environment.live?];
        let (release, version) = (row.release.clone(), row.version.clone());
        Some(Live { number: row.number, release, version, slot: row.slot })
    }

    fn situation(&self) -> Situation {
        let side = |record: &backout_core::model::SlotRecord| Side {
            deployment: record.deployment,
            release: self.releases[record.release.as_str()].clone(),
            running: Running::Yes,
            services: record.services.clone(),
            hosts: record.hosts.clone(),
            idle: BTreeSet::new(),
        };
        let slots: BTreeMap<Slot, Side> =
            self.environment.slots.iter().map(|(slot, record)| (*slot, side(record))).collect();
        let live = self.live();
        let weights = live
            .as_ref()
            .filter(|_| self.capabilities.side_by_side)
            .map(|live| BTreeMap::from([(live.slot, 100), (live.slot.other(), 0)]));
        Situation { live, slots, weights }
    }

    fn context(&self) -> PlanContext<'_> {
        let number = self.environment.next_number;
        PlanContext {
            operation: OperationId::new(format!("op_7h3x9k2m4p5q6r8s0t1u2v3{number}")).unwrap(),
            deployment_id: DeploymentId::new(format!("dep_7h3x9k2m4p5q6r8s0t1u2v3{number}"))
                .unwrap(),
            rollback_id: RollbackId::new(format!("rb_7h3x9k2m4p5q6r8s0t1u2v3{number}")).unwrap(),
            key: self.key().clone(),
            number,
            policy: self.policy(),
            capabilities: self.capabilities,
            surface: Surface::Cli,
            requested_by: "ann@build1".to_owned(),
            reason: None,
            forced: false,
            overrides: Vec::new(),
            now: self.now,
        }
    }

    /// The plan of a deploy; what is kept is seen to run as wanted.
    pub fn planned(&self, release: &Arc<Release>) -> Plan {
        let as_wanted = release.content.origins.keys().cloned().collect();
        let seen = Seen { as_wanted, down: BTreeSet::new() };
        plan_deploy(&self.context(), &self.situation(), release, false, &seen).unwrap()
    }

    /// A deploy to its end.
    pub fn deployed(&mut self, release: &Arc<Release>) -> Ran {
        let plan = self.planned(release);
        self.run(plan, None, None, "")
    }

    /// The plan of a way back from what is live, or from `left`.
    pub fn plan_back(
        &self,
        to: &Arc<Release>,
        left: Live,
        (services, trigger, evidence): (&[&str], Trigger, &str),
    ) -> Plan {
        let automatic = trigger != Trigger::Manual;
        let kept = to.content.origins.keys().filter(|name| !services.contains(&name.as_str()));
        let wish = RollbackWish {
            release: to.clone(),
            was_stable: true,
            left: Some(left),
            reject_left: true,
            rollback_type: if automatic { RollbackType::Automatic } else { RollbackType::Previous },
            untouched: BTreeSet::new(),
            begun: BTreeMap::new(),
            trigger,
            evidence: if evidence.is_empty() { Vec::new() } else { vec![evidence.to_owned()] },
            services: services.iter().map(|text| name(text)).collect(),
            seen: Seen { as_wanted: kept.cloned().collect(), down: BTreeSet::new() },
        };
        plan_rollback(&self.context(), &self.situation(), &wish).unwrap()
    }

    /// A deploy that fails at the first start of `service` on each of `hosts`, and its way back to what was live.
    pub fn taken_back(&mut self, release: &Arc<Release>, failing: &str, why: &str) -> (Ran, Ran) {
        let old = self.releases[self.live().unwrap().release.as_str()].clone();
        let plan = self.planned(release);
        let left = Live {
            number: plan.deployment.unwrap(),
            release: release.id.clone(),
            version: release.content.version.clone(),
            slot: plan.slot,
        };
        let back_of = OperationId::new("op_7h3x9k2m4p5q6r8s0t1u2v3b").unwrap();
        let failure = Failure {
            trigger: Trigger::StartupFailure,
            evidence: vec![why.to_owned()],
            release_is_bad: true,
            by_router: false,
        };
        let ending = Ending::TakenBack { by: back_of, failure: Some(failure.clone()) };
        let deploy = self.run(plan, Some((failing, why)), Some((failure, ending)), "");
        let plan = self.plan_back(&old, left, (&[], Trigger::StartupFailure, why));
        let back = self.run(plan, None, None, "");
        (deploy, back)
    }

    /// Runs a plan; up to the step that fails, if one does.
    pub fn run(
        &mut self,
        plan: Plan,
        fails: Option<(&str, &str)>,
        end: Option<(Failure, Ending)>,
        said: &str,
    ) -> Ran {
        let left = plan.left.as_ref().and_then(|left| self.rows.get(&left.number)).cloned();
        let mut rows = opening(&plan, &self.environment, left, "/srv/shop");
        let mut entries = Vec::new();
        self.note(
            &plan,
            &mut rows,
            &mut entries,
            EntryKind::Claimed { holder: "ann@build1:4711".to_owned() },
        );
        let mut failed_in = None;
        for (step, of) in plan.steps.iter().enumerate() {
            // The others of its wave come to their end.
            if failed_in.is_some_and(|wave| wave != of.wave || of.wave.is_none()) {
                break;
            }
            self.now += SignedDuration::from_millis(took_ms(&of.action));
            self.note(&plan, &mut rows, &mut entries, EntryKind::StepStarted { step, attempt: 1 });
            self.now += SignedDuration::from_millis(140);
            if let Some((_, why)) = fails.filter(|(who, _)| of.subject.contains(who)) {
                let (class, message) = (ErrorClass::Permanent, why.to_owned());
                let failed = EntryKind::StepFailed { step, class, message };
                self.note(&plan, &mut rows, &mut entries, failed);
                failed_in = Some(of.wave);
                continue;
            }
            let receipt = Receipt { message: said.to_owned(), ..Receipt::default() };
            let done = EntryKind::StepDone { step, adopted: false, receipt };
            self.note(&plan, &mut rows, &mut entries, done);
        }
        if let Some((failure, _)) = &end {
            let failing = EntryKind::Failing { failure: failure.clone() };
            self.note(&plan, &mut rows, &mut entries, failing);
        }
        let ending = end.map_or(Ending::Done { healthy: true }, |(_, ending)| ending);
        self.note(&plan, &mut rows, &mut entries, EntryKind::Ended { ending: ending.clone() });
        let state = fold(&plan, &entries).unwrap();
        let healths = self.settings.services.keys();
        let healths = healths.map(|name| (name.to_string(), Health::Healthy)).collect();
        let _ = on_end(&plan, &state, &mut rows, &ending, &healths, self.now);
        self.environment = rows.environment.clone();
        for row in rows.deployment.iter().chain(&rows.left) {
            self.rows.insert(row.number, row.clone());
        }
        let finished = Finished { plan: plan.clone(), state, rows };
        self.now += SignedDuration::from_mins(47);
        Ran { plan, entries, finished }
    }

    fn note(
        &self,
        plan: &Plan,
        rows: &mut backout_core::saga::Opening,
        entries: &mut Vec<Entry>,
        kind: EntryKind,
    ) {
        let entry = Entry { format: ENTRY_FORMAT, at: self.now, epoch: 7, kind };
        let _ = on_progress(plan, rows, &entry);
        entries.push(entry);
    }

    /// What `status` sees; `failing` are services, or `service@host`, that do not do well.
    pub fn view(&self, failing: &[(&str, Health)]) -> View {
        let live = self.environment.live.map(|number| self.rows[&number].clone());
        let release = live.as_ref().map(|row| (*self.releases[row.release.as_str()]).clone());
        let mut health = LiveHealth {
            overall: failing.iter().map(|(_, health)| *health).max().unwrap_or(Health::Healthy),
            services: self
                .settings
                .services
                .keys()
                .map(|n| (n.to_string(), Health::Healthy))
                .collect(),
            hosts: BTreeMap::new(),
            checked_at: self.now - SignedDuration::from_secs(4),
            fresh_for_ms: 60_000,
        };
        for name in self.settings.services.keys() {
            for host in self.hosts().iter().filter(|host| !host.is_local()) {
                health.hosts.insert(format!("{name}@{host}"), Health::Healthy);
            }
        }
        for (who, how) in failing {
            if who.contains('@') {
                health.hosts.insert((*who).to_owned(), *how);
            }
            let service = who.split('@').next().unwrap_or_default();
            health.services.insert(service.to_owned(), *how);
        }
        View {
            at: self.now,
            environment: self.environment.clone(),
            known: true,
            live_since: live.as_ref().and_then(|row| row.stable_at),
            live,
            release,
            health: Some(health),
            readiness: self.readiness(),
            lease: None,
            controller: None,
            operation: None,
            orders: Vec::new(),
            traffic: TrafficView::NoRouter,
            drift: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn hosts(&self) -> &[HostName] {
        &self.settings.hosts
    }

    fn readiness(&self) -> Option<ReadinessReport> {
        let row = self.rows.values().rev().find(|row| {
            Some(row.number) != self.environment.live && !row.rejected && row.stable_at.is_some()
        })?;
        let check = |name: &str, status, message: &str| ReadinessCheck {
            name: name.to_owned(),
            status,
            message: message.to_owned(),
        };
        Some(ReadinessReport {
            deployment: row.number,
            version: row.version.clone(),
            ready: true,
            checked_at: self.now - SignedDuration::from_secs(12),
            checks: vec![
                check("artifact_available", Severity::Pass, "3 copies, each whole"),
                check(
                    "config_compatibility",
                    Severity::Pass,
                    "2 config files in the ledger, each whole",
                ),
                check(
                    "old_release_startable",
                    Severity::Warning,
                    "not running, and never rehearsed: `backout drill` shows whether it starts",
                ),
            ],
            expected_ms: Some(1_840),
            found: None,
        })
    }
}

impl Ran {
    /// As a command's outcome.
    pub fn outcome(&self, then: Option<Outcome>) -> Outcome {
        Outcome::Ended {
            operation: Box::new(self.finished.clone()),
            ending: self.finished.state.ended.clone().unwrap(),
            then: then.map(Box::new),
        }
    }
}

fn took_ms(action: &Action) -> i64 {
    match action {
        Action::Watch { .. } => 61_000,
        Action::Start { .. } => 1_200,
        _ => 3,
    }
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}
