//! Tasks that read metrics and send requests of our own, both sides at the same time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backout_core::ids::Unit;
use backout_core::ports::{MetricSource, MetricSubject, ProbeSubject, Synthetic, SyntheticOutcome};
use backout_judge::{Arm, Judge};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::figures::{Figures, Given};
use super::past::Lookup;
use super::sampler::{Address, Message, WatchedSide};
use crate::context::{Context, MetricPlan, SyntheticPlan};

/// How often is looked whether it has begun.
const WAIT: Duration = Duration::from_millis(100);
/// One look into the past may take this long.
const PAST_TIMEOUT: Duration = Duration::from_secs(5);
/// One request of our own may take this long at most.
const SYNTHETIC_TIMEOUT: Duration = Duration::from_secs(10);

/// A unit on one side.
#[derive(Clone)]
pub(super) struct Asked {
    pub side: WatchedSide,
    pub unit: Unit,
    pub address: Address,
}

impl Asked {
    fn address(&self) -> Option<SocketAddr> {
        *self.address.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn subject(&self, timeout: Duration) -> MetricSubject {
        MetricSubject {
            unit: self.unit.clone(),
            address: self.address(),
            version: self.side.release.content.version_of(&self.unit.service).clone(),
            release: self.side.release.runs_as(&self.unit.service).clone(),
            deployment: self.side.deployment,
            timeout,
        }
    }
}

/// What is started beside the health checks.
pub(super) struct Beside<'a> {
    pub cx: &'a Context,
    pub judging: Arc<AtomicBool>,
    pub tx: &'a mpsc::Sender<Message>,
}

impl Beside<'_> {
    /// The past is that of the side that serves now: the last one, where there are two.
    fn look_up(&self, tasks: &mut JoinSet<()>, all: &[Asked]) {
        let arm = all.last().map_or(Arm::Canary, |asked| asked.side.arm);
        let mut plans = Vec::new();
        for asked in all.iter().filter(|asked| asked.side.arm == arm) {
            let subject = asked.subject(PAST_TIMEOUT);
            let of = self.cx.probes.metrics(&asked.unit.service);
            plans.extend(of.into_iter().map(|plan| (plan, subject.clone())));
        }
        let lookup = Lookup {
            ledger: self.cx.ledger.clone(),
            key: self.cx.key.clone(),
            clock: self.cx.clock,
            plans,
        };
        tasks.spawn(lookup.run(self.judging.clone(), self.tx.clone()));
    }

    /// Starts a task for each source, and one for requests of our own.
    pub fn spawn(
        &self,
        tasks: &mut JoinSet<()>,
        judge: &mut Judge,
        figures: &mut Figures,
        all: &[Asked],
    ) {
        self.look_up(tasks, all);
        let of = |arm: Arm| all.iter().filter(move |asked| asked.side.arm == arm);
        for canary in of(Arm::Canary) {
            let service = &canary.unit.service;
            let baseline = of(Arm::Baseline).find(|other| other.unit.service == *service);
            let sides = [Some(canary.clone()), baseline.cloned()];
            for MetricPlan { source, asked } in self.cx.probes.metrics(service) {
                let (index, expressions) = figures.add(judge, source.name(), &asked);
                tasks.spawn(
                    Reader {
                        source,
                        index,
                        expressions,
                        interval: Duration::from_millis(asked.interval_ms),
                        timeout: Duration::from_millis(asked.timeout_ms),
                        sides: sides.clone(),
                        clock: self.cx.clock,
                    }
                    .run(self.judging.clone(), self.tx.clone()),
                );
            }
            let takes_traffic =
                canary.side.release.content.services.get(service).is_some_and(|s| s.traffic);
            let synthetic = self.cx.probes.synthetic(service).filter(|_| takes_traffic);
            if let Some(plan) = synthetic {
                let (judging, tx) = (self.judging.clone(), self.tx.clone());
                tasks.spawn(send(plan, sides, self.cx.clock, judging, tx));
            }
        }
    }
}

pub(super) async fn begun(judging: &AtomicBool) {
    while !judging.load(Ordering::SeqCst) {
        tokio::time::sleep(WAIT).await;
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks
}

struct Reader {
    source: Arc<dyn MetricSource>,
    index: usize,
    expressions: Vec<String>,
    interval: Duration,
    timeout: Duration,
    sides: [Option<Asked>; 2],
    clock: fn() -> Timestamp,
}

impl Reader {
    async fn run(self, judging: Arc<AtomicBool>, tx: mpsc::Sender<Message>) {
        begun(&judging).await;
        let mut ticks = ticks(self.interval);
        loop {
            ticks.tick().await;
            let at = (self.clock)();
            let [canary, baseline] = &self.sides;
            let (canary, baseline) =
                tokio::join!(self.read(canary.as_ref()), self.read(baseline.as_ref()));
            let given: Box<Given> = Box::new([canary, baseline]);
            if tx.send(Message::Figures { at, source: self.index, given }).await.is_err() {
                return;
            }
        }
    }

    async fn read(
        &self,
        side: Option<&Asked>,
    ) -> Option<Result<Vec<backout_core::ports::Points>, String>> {
        let subject = side?.subject(self.timeout);
        let read = self.source.read(&subject, &self.expressions);
        // A source keeps to its time by itself; this is for one that does not.
        match tokio::time::timeout(self.timeout + Duration::from_secs(5), read).await {
            Ok(read) => Some(read.map_err(|error| error.to_string())),
            Err(_) => Some(Err(format!("{} did not answer in time", self.source.name()))),
        }
    }
}

async fn send(
    plan: SyntheticPlan,
    sides: [Option<Asked>; 2],
    clock: fn() -> Timestamp,
    judging: Arc<AtomicBool>,
    tx: mpsc::Sender<Message>,
) {
    begun(&judging).await;
    let mut ticks = ticks(Duration::from_millis(plan.interval_ms));
    loop {
        ticks.tick().await;
        let [canary, baseline] = &sides;
        let (canary, baseline) = tokio::join!(
            ask(plan.sender.as_ref(), canary.as_ref()),
            ask(plan.sender.as_ref(), baseline.as_ref())
        );
        let message = Message::Synthetic { at: clock(), ok: [canary, baseline] };
        if tx.send(message).await.is_err() {
            return;
        }
    }
}

async fn ask(sender: &dyn Synthetic, side: Option<&Asked>) -> Option<bool> {
    let side = side?;
    let subject = ProbeSubject {
        unit: side.unit.clone(),
        address: Some(side.address()?),
        version: side.side.release.content.version_of(&side.unit.service).clone(),
        release: side.side.release.runs_as(&side.unit.service).clone(),
        timeout: SYNTHETIC_TIMEOUT,
        retries: 0,
    };
    match sender.request(&subject).await {
        SyntheticOutcome::Answered(_) => Some(true),
        SyntheticOutcome::Failed => Some(false),
        SyntheticOutcome::NotSent => None,
    }
}
