//! With nothing beside the new side, it is judged against the service's own past: what the ledger recorded, what
//! its router remembers, or what Prometheus kept.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use backout_core::ids::EnvironmentKey;
use backout_core::ports::{Ledger, MetricSubject, Point};
use backout_judge::Arm;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::hours::{Hour, Record, Usual};
use super::increase::Totals;
use super::metric_samplers::begun;
use super::sampler::{Message, Watcher};
use crate::context::{Context, MetricPlan};

/// The name under which the ledger keeps the record.
const NAME: &str = "hours";
/// So much of what Prometheus kept is looked at.
const HOURS: u32 = 168;
/// It may take this long in all; a watch waits for it.
const LIMIT: Duration = Duration::from_secs(10);
/// The reference is looked up anew as often, since hours differ.
const PERIOD: Duration = Duration::from_secs(900);
/// The record is written as often.
const WRITE_PERIOD: Duration = Duration::from_secs(10);

/// Looks up what was usual before, now and then; beside the watch, which waits for nothing.
pub(super) struct Lookup {
    pub ledger: Arc<dyn Ledger>,
    pub key: EnvironmentKey,
    pub clock: fn() -> Timestamp,
    /// Sources that may have a memory, and whose past is asked for.
    pub plans: Vec<(MetricPlan, MetricSubject)>,
}

impl Lookup {
    /// Sends what is usual whenever it may have changed.
    pub async fn run(self, judging: Arc<AtomicBool>, tx: mpsc::Sender<Message>) {
        begun(&judging).await;
        loop {
            let usual = self.usual().await;
            if tx.send(Message::Usual { at: (self.clock)(), usual }).await.is_err() {
                return;
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn usual(&self) -> Option<Usual> {
        let now = (self.clock)();
        let kept = tokio::time::timeout(LIMIT, self.kept()).await.ok().flatten();
        match kept.and_then(|record| record.usual(now)) {
            Some(usual) => Some(usual),
            None => read(self.ledger.as_ref(), &self.key).await.usual(now),
        }
    }

    /// What sources with a memory tell of the service's requests.
    async fn kept(&self) -> Option<Record> {
        for (plan, subject) in &self.plans {
            let Some(requests) = &plan.asked.requests else { continue };
            let asked = [requests.total.clone(), requests.failed.clone()];
            let past = plan.source.past(subject, &asked, HOURS).await;
            if let Ok(Some([total, failed])) = past.as_ref().map(|past| past.as_deref()) {
                return Some(by_hour(total, failed));
            }
        }
        None
    }
}

/// Writes what the live side serves into the record, now and then.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    written: Option<Instant>,
}

impl Recorder {
    pub async fn look_after(&mut self, cx: &Context, watcher: &mut Watcher) {
        if self.written.is_none_or(|at| at.elapsed() >= WRITE_PERIOD) {
            self.written = Some(Instant::now());
            record(cx, watcher, Arm::Baseline).await;
        }
    }
}

async fn read(ledger: &dyn Ledger, key: &EnvironmentKey) -> Record {
    let document = ledger.document(key, NAME).await.ok().flatten();
    document.and_then(|document| serde_json::from_value(document).ok()).unwrap_or_default()
}

/// Adds what one side served to the record. It is for comparison only: a failure here must not end the watch.
pub(super) async fn record(cx: &Context, watcher: &mut Watcher, arm: Arm) {
    if !watcher.feed.hours.has(arm) {
        return;
    }
    let mut record = read(cx.ledger.as_ref(), &cx.key).await;
    if watcher.feed.hours.take(arm, &mut record)
        && let Ok(document) = serde_json::to_value(&record)
    {
        let _ = cx.ledger.put_document(&cx.key, NAME, &document).await;
    }
}

/// From totals at the end of each hour to what each hour had.
fn by_hour(total: &[(Timestamp, Point)], failed: &[(Timestamp, Point)]) -> Record {
    let mut record = Record::default();
    let mut counters = [Totals::default(), Totals::default()];
    let mut times: Vec<Timestamp> = total.iter().map(|(at, _)| *at).collect();
    times.dedup();
    for at in times {
        let of = |points: &[(Timestamp, Point)]| -> Vec<Point> {
            points.iter().filter(|(when, _)| *when == at).map(|(_, point)| *point).collect()
        };
        let all = counters[0].sum(&of(total));
        let bad = counters[1].sum(&of(failed));
        let (Some(all), Some(bad)) = (all, bad) else { continue };
        if bad <= all {
            let hour = at.as_second().div_euclid(3_600);
            record.add(hour, Hour { requests: all as u64, failed: bad as u64 });
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_become_hours() {
        let at = |hour: i64| Timestamp::from_second(hour * 3_600).unwrap();
        let point = |value: f64| Point { series: 1, bound: None, value };
        let total: Vec<_> =
            [(1, 5_000.0), (2, 7_000.0), (3, 500.0)].map(|(h, v)| (at(h), point(v))).into();
        let failed = vec![(at(2), point(20.0)), (at(3), point(25.0))];
        let record = by_hour(&total, &failed);
        let usual = record.usual(at(50)).unwrap();
        assert_eq!((usual.total, usual.failed, usual.same_hour), (2_000, 20, true));
        assert_eq!(record.usual(at(52)).unwrap().total, 2_500, "a reset counts what came since");
    }
}
