//! Samplers: one task per probe, one per unit for its process, one for the router's counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backout_core::ids::{HostName, Slot, Unit};
use backout_core::model::{Health, Release, RouterPolicy, Service};
use backout_core::ports::{
    DeadManFired, ErrorClass, Observed, ProbeError, ProbeSubject, Running, Sample, TrafficFrame,
    Tripped,
};
use backout_judge::{Arm, CheckId, Judge, Level, Settings, Verdict};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::feed::Feed;
use super::figures::{Figures, Given};
use super::hours::Usual;
use super::metric_samplers::{self, Asked};
use crate::context::{Context, ProbePlan};
use crate::situation;

/// How often a unit's process is looked at.
const OBSERVE_PERIOD: Duration = Duration::from_millis(250);
/// Before the router's counters are asked for again after they broke off: at first, and at most.
const FRAMES_RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Part of the errors' budget for single endpoints, where the router counts them.
const ROUTES_BUDGET: f64 = 0.15;

/// What a sampler saw.
#[derive(Debug)]
pub(crate) enum Message {
    /// A check was made, or could not be.
    Checked {
        started_at: Timestamp,
        arm: Arm,
        check: CheckId,
        unit: Unit,
        result: Result<Sample, ProbeError>,
    },
    /// A unit's process.
    Observed { arm: Arm, unit: Unit, observed: Box<Observed> },
    /// The router's counters.
    Frame(Box<TrafficFrame>),
    /// What a source of metrics gave.
    Figures { at: Timestamp, source: usize, given: Box<Given> },
    /// What was usual before, as far as it was recorded.
    Usual { at: Timestamp, usual: Option<Usual> },
    /// How a pair of our own requests ended; `None`: not sent.
    Synthetic { at: Timestamp, ok: [Option<bool>; 2] },
    /// The router has a route of this environment, and does not answer.
    RouterGone,
}

/// A side under watch.
#[derive(Debug, Clone)]
pub(crate) struct WatchedSide {
    pub slot: Slot,
    pub arm: Arm,
    pub deployment: u64,
    pub release: Arc<Release>,
}

/// Samplers and judge of one operation. Ends its tasks when dropped.
pub(crate) struct Watcher {
    pub judge: Judge,
    pub feed: Feed,
    /// Metrics beside health.
    pub figures: Figures,
    pub sides: Vec<WatchedSide>,
    /// The hosts that are looked at; empty: all.
    pub hosts: Vec<HostName>,
    pub messages: mpsc::Receiver<Message>,
    /// A dead-man deadline that ran out at the router.
    pub fired: Option<DeadManFired>,
    /// A trip that fired there.
    pub tripped: Option<Tripped>,
    /// Why nobody can come in although the router runs.
    pub unbound: Option<String>,
    /// The router did not answer, and its counters have not come again since.
    pub router_gone: bool,
    /// Some probe of the judged side asks that side alone.
    pub names_a_side: bool,
    routed: Arc<AtomicBool>,
    /// A stage or bake has begun, so that metrics are read.
    judging: Arc<AtomicBool>,
    health: Vec<(Arm, Unit, CheckId, Health)>,
    _tasks: JoinSet<()>,
}

impl Watcher {
    /// Starts watching. `judged` is on trial; `baseline` is what it is compared with. `routed`: users come in
    /// through the router already, so that it must answer. `just_started`: every exit of the judged side counts.
    pub fn start(
        cx: &Context,
        mut settings: Settings,
        judged: (Slot, u64, Arc<Release>),
        baseline: Option<(Slot, u64, Arc<Release>)>,
        (routed, just_started, hosts): (bool, bool, &[HostName]),
    ) -> Self {
        settings.watch_ms =
            settings.watch_ms.max(i64::try_from(cx.policy.bake_ms).unwrap_or(i64::MAX / 4));
        // Endpoints are counted by request, and where clients stay on their side one of them is no evidence.
        if matches!(cx.policy.router, RouterPolicy::Builtin { .. }) && !settings.sticky_sessions {
            settings.budget.routes = ROUTES_BUDGET;
        }
        let mut judge = Judge::new(settings, cx.now().as_millisecond());
        let (tx, messages) = mpsc::channel(4096);
        let mut tasks = JoinSet::new();
        let mut sides = vec![WatchedSide {
            slot: judged.0,
            arm: Arm::Canary,
            deployment: judged.1,
            release: judged.2,
        }];
        sides.extend(baseline.map(|(slot, deployment, release)| WatchedSide {
            slot,
            arm: Arm::Baseline,
            deployment,
            release,
        }));
        let mut names_a_side = false;
        let mut addresses = Vec::new();
        for side in &sides {
            for service in side.release.content.services.values() {
                // A worker of the old side was stopped before the new one began.
                let stopped = side.arm == Arm::Baseline && !service.traffic;
                if stopped || crate::jobs::is_job(service) {
                    continue;
                }
                let units = situation::units(cx, &service.name, side.slot).into_iter();
                let watched = units.filter(|unit| hosts.is_empty() || hosts.contains(&unit.host));
                for (nth, unit) in watched.enumerate() {
                    let (named, address) =
                        spawn_unit(cx, &mut tasks, &tx, &mut judge, side, (service, &unit));
                    names_a_side |= named && side.arm == Arm::Canary;
                    // Metrics are those of the service, wherever it runs.
                    if nth == 0 {
                        addresses.push(Asked { side: side.clone(), unit, address });
                    }
                }
            }
        }
        let routed = Arc::new(AtomicBool::new(routed));
        let tx_figures = tx.clone();
        if let Some(router) = cx.router.clone() {
            tasks.spawn(frames(router, routed.clone(), tx));
        }
        let judging = Arc::new(AtomicBool::new(false));
        let mut figures = Figures::default();
        let beside = metric_samplers::Beside { cx, judging: judging.clone(), tx: &tx_figures };
        beside.spawn(&mut tasks, &mut judge, &mut figures, &addresses);
        let feed = Feed::new(
            sides.iter().map(|side| (side.slot, side.arm, side.deployment)).collect(),
            just_started,
        );
        Self {
            judge,
            feed,
            figures,
            sides,
            hosts: hosts.to_vec(),
            messages,
            fired: None,
            tripped: None,
            unbound: None,
            router_gone: false,
            names_a_side,
            routed,
            judging,
            health: Vec::new(),
            _tasks: tasks,
        }
    }

    /// From now on users come in through the router, so that it must answer.
    pub fn expect_router(&self) {
        self.routed.store(true, Ordering::SeqCst);
    }

    /// From now on metrics are read and requests of our own are sent.
    pub fn begin_judging(&self) {
        self.judging.store(true, Ordering::SeqCst);
    }

    /// Whether metrics are read.
    pub fn is_judging(&self) -> bool {
        self.judging.load(Ordering::SeqCst)
    }

    /// The judge's verdict, with what sources of metrics leave open: those are waited for in a stage, and told in bake.
    pub fn verdict(&self, now_ms: i64, baking: bool) -> (Verdict, bool) {
        let mut verdict = self.judge.verdict(now_ms);
        if verdict.is_failing() {
            verdict.evidence = self.feed.name_endpoint(&verdict.evidence);
        }
        let judging = self.judging.load(Ordering::SeqCst);
        let Some(missing) = self.figures.missing().filter(|_| judging) else {
            return (verdict, false);
        };
        let only_sources = verdict.may_go_on();
        if baking {
            verdict.warnings.push(missing);
        } else if only_sources {
            verdict.level = Level::NotEnoughData;
            verdict.evidence = format!("not enough data: {missing}");
            verdict.missing = Some(missing);
        }
        (verdict, only_sources)
    }

    /// Users get no answer at all: the router is gone, or can't listen.
    pub fn users_cut_off(&self) -> bool {
        self.router_gone || self.unbound.is_some()
    }

    pub fn judged(&self) -> &WatchedSide {
        &self.sides[0]
    }

    /// Remembers the last result of a check.
    pub fn remember(&mut self, arm: Arm, unit: &Unit, check: CheckId, health: Health) {
        match self.health.iter_mut().find(|(a, _, c, _)| *a == arm && *c == check) {
            Some(entry) => entry.3 = health,
            None => self.health.push((arm, unit.clone(), check, health)),
        }
    }

    /// By service, the worst of its checks.
    pub fn health_of(&self, arm: Arm) -> BTreeMap<String, Health> {
        let mut services = BTreeMap::new();
        for (_, unit, _, health) in self.health.iter().filter(|(a, ..)| *a == arm) {
            let worst = services.entry(unit.service.to_string()).or_insert(*health);
            *worst = worst.worse(*health);
        }
        // A job that had not ended well would have ended the operation.
        let sides = self.sides.iter().filter(|side| side.arm == arm);
        for service in sides.flat_map(|side| side.release.content.services.values()) {
            if crate::jobs::is_job(service) {
                services.insert(service.name.to_string(), Health::Healthy);
            }
        }
        services
    }

    /// By `service@host`, the worst of its checks; nothing for this machine.
    pub fn health_by_host(&self, arm: Arm) -> BTreeMap<String, Health> {
        let mut hosts = BTreeMap::new();
        let remote = |(a, unit, ..): &&(Arm, Unit, _, _)| *a == arm && !unit.host.is_local();
        for (_, unit, _, health) in self.health.iter().filter(remote) {
            let worst = hosts.entry(situation::who(unit)).or_insert(*health);
            *worst = worst.worse(*health);
        }
        hosts
    }

    /// Every check of a side passed last time.
    pub fn side_healthy(&self, arm: Arm) -> bool {
        self.health
            .iter()
            .filter(|(a, ..)| *a == arm)
            .all(|(.., h)| matches!(h, Health::Healthy | Health::Warning))
    }
}

fn spawn_unit(
    cx: &Context,
    tasks: &mut JoinSet<()>,
    tx: &mpsc::Sender<Message>,
    judge: &mut Judge,
    side: &WatchedSide,
    (service, unit): (&Service, &Unit),
) -> (bool, Address) {
    let mut names_a_side = false;
    let address = Arc::new(std::sync::Mutex::new(None));
    tasks.spawn(observe(
        cx.target.clone(),
        unit.clone(),
        side.clone(),
        address.clone(),
        tx.clone(),
    ));
    for plan in cx.probes.for_unit(unit, service) {
        let interval_ms = i64::try_from(plan.schedule.rollout_interval_ms).unwrap_or(1_000);
        let check =
            judge.add_check(plan.probe.name(), &situation::who(unit), side.arm, interval_ms);
        names_a_side |= plan.names_a_side;
        tasks.spawn(probe(
            plan,
            check,
            unit.clone(),
            side.clone(),
            address.clone(),
            (cx.clock, tx.clone()),
        ));
    }
    (names_a_side, address)
}

/// Where a unit answers, once that is known.
pub(super) type Address = Arc<std::sync::Mutex<Option<std::net::SocketAddr>>>;

async fn observe(
    target: Arc<dyn backout_core::ports::Target>,
    unit: Unit,
    side: WatchedSide,
    address: Address,
    tx: mpsc::Sender<Message>,
) {
    loop {
        if let Ok(observed) = target.observe(&unit, Some(&side.release)).await {
            if observed.running != Running::No {
                *address.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                    observed.address;
            }
            let message = Message::Observed {
                arm: side.arm,
                unit: unit.clone(),
                observed: Box::new(observed),
            };
            if tx.send(message).await.is_err() {
                return;
            }
        }
        // A script's `status` is a process of its own: not four a second.
        let addressable = target.capabilities().addressable;
        tokio::time::sleep(if addressable { OBSERVE_PERIOD } else { 4 * OBSERVE_PERIOD }).await;
    }
}

async fn probe(
    plan: ProbePlan,
    check: CheckId,
    unit: Unit,
    side: WatchedSide,
    address: Address,
    (clock, tx): (fn() -> Timestamp, mpsc::Sender<Message>),
) {
    tokio::time::sleep(Duration::from_millis(plan.schedule.rollout_initial_delay_ms)).await;
    let mut ticks =
        tokio::time::interval(Duration::from_millis(plan.schedule.rollout_interval_ms.max(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let subject = ProbeSubject {
            unit: unit.clone(),
            address: *address.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
            version: side.release.content.version_of(&unit.service).clone(),
            release: side.release.runs_as(&unit.service).clone(),
            timeout: Duration::from_millis(plan.schedule.timeout_ms),
            retries: 0,
        };
        let started_at = clock();
        let result = plan.probe.check(&subject).await;
        let message =
            Message::Checked { started_at, arm: side.arm, check, unit: unit.clone(), result };
        if tx.send(message).await.is_err() {
            return;
        }
    }
}

async fn frames(
    router: Arc<dyn backout_core::ports::Router>,
    routed: Arc<AtomicBool>,
    tx: mpsc::Sender<Message>,
) {
    let mut wait = FRAMES_RETRY.0;
    loop {
        match router.frames().await {
            Ok(Some(mut stream)) => {
                // It streams only what it has a route for.
                routed.store(true, Ordering::SeqCst);
                wait = FRAMES_RETRY.0;
                while let Some(frame) = stream.next().await {
                    if tx.send(Message::Frame(Box::new(frame))).await.is_err() {
                        return;
                    }
                }
                continue;
            }
            Ok(None) => return,
            // It can't be reached; a refusal would be permanent.
            Err(error) if routed.load(Ordering::SeqCst) && error.class == ErrorClass::Transient => {
                if tx.send(Message::RouterGone).await.is_err() {
                    return;
                }
            }
            Err(_) => {}
        }
        tokio::time::sleep(wait).await;
        // A first route comes any moment, and with it requests that nobody may miss.
        if routed.load(Ordering::SeqCst) {
            wait = (2 * wait).min(FRAMES_RETRY.1);
        }
    }
}
