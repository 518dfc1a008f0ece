//! The process as a whole: which environments, signs of life, and how it leaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ids::EnvironmentKey;
use backout_core::model::ControllerBeat;
use backout_core::ports::{Holder, Ledger};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::beat::beat;
use super::guard::guard;
use super::orders::orders;
use super::refresh::refresh;
use super::tender::Tender;
use crate::context::{Context, Interrupt};

/// Configuration is looked at so often.
const PERIOD: Duration = Duration::from_secs(1);
/// A third of a term.
const BEAT_PERIOD: Duration = Duration::from_secs(5);
/// A way back is finished before this controller leaves, but for no longer than this.
const FINISH_LIMIT: Duration = Duration::from_secs(90);
/// Then it is handed over; an effect that is under way is waited for.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(20);

/// What a controller looks after.
#[async_trait]
pub trait Fleet: Send {
    /// The environments now: asked about once a second, and at once when `again` says that somebody wants it read
    /// anew. What did not change is given as it was.
    async fn environments(&mut self, again: bool) -> Vec<Arc<Context>>;
}

/// How a controller is asked to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leave {
    /// It stays.
    No,
    /// Deploys are handed over at their next safe point, a way back is finished.
    Soon,
    /// A way back is handed over too.
    Now,
}

struct Tended {
    contexts: watch::Sender<Arc<Context>>,
    leaving: watch::Sender<Interrupt>,
    task: JoinHandle<()>,
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tended {
    fn begin(cx: Arc<Context>) -> Self {
        let key = cx.key.clone();
        let (contexts, context) = watch::channel(cx);
        let (leaving, leaves) = watch::channel(Interrupt::None);
        let tender = Arc::new(Tender::new(key.clone(), context, leaves));
        let lines = tender.events.subscribe();
        let task = tokio::spawn(async move {
            let writer = tokio::spawn(super::log::follow(key, lines));
            tokio::join!(guard(&tender), orders(&tender), refresh(&tender));
            drop(tender);
            // It has told everything once nobody is left who could.
            let _ = writer.await;
        });
        Self { contexts, leaving, task }
    }

    fn leave(&self, rollbacks: bool) {
        self.leaving.send_replace(Interrupt::HandOver { rollbacks });
    }
}

/// Runs until it is asked to leave; `alive` is called with every round, from the first in which it can take orders.
pub async fn run_controller(
    fleet: &mut dyn Fleet,
    ledger: Arc<dyn Ledger>,
    holder: &Holder,
    leave: watch::Receiver<Leave>,
    again: &Notify,
    mut alive: impl FnMut(usize),
) {
    let mut leaving = leave.clone();
    let mut tended: BTreeMap<EnvironmentKey, Tended> = BTreeMap::new();
    let mut ending: Vec<Tended> = Vec::new();
    let mut heart = Heart { ledger, holder, started_at: None, last: None };
    let (mut wanted, mut known) = (false, false);
    while *leaving.borrow() == Leave::No {
        let contexts = fleet.environments(std::mem::take(&mut wanted)).await;
        bring_up(&mut tended, &mut ending, &contexts);
        ending.retain(|one| !one.task.is_finished());
        heart.beat(&contexts).await;
        // Whoever hears that it lives may order at once, and then the ledger has to know of it.
        known = known || contexts.is_empty() || heart.last.is_some();
        if known {
            alive(tended.len());
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = again.notified() => wanted = true,
            _ = leaving.wait_for(|leave| *leave != Leave::No) => {}
        }
    }
    // From here on nobody counts on this controller.
    let _ = heart.ledger.leave(holder).await;
    ending.extend(tended.into_values());
    finish(ending, leave).await;
}

/// Begins with what is new, tells of what changed, ends what is gone, and begins again what broke.
fn bring_up(
    tended: &mut BTreeMap<EnvironmentKey, Tended>,
    ending: &mut Vec<Tended>,
    contexts: &[Arc<Context>],
) {
    for cx in contexts {
        match tended.get(&cx.key) {
            Some(one) if one.task.is_finished() => {
                tracing::error!(environment = %cx.key, "looking after it broke off, and begins again");
                tended.insert(cx.key.clone(), Tended::begin(cx.clone()));
            }
            Some(one) => {
                let changed = !Arc::ptr_eq(&one.contexts.borrow(), cx);
                if changed {
                    one.contexts.send_replace(cx.clone());
                }
            }
            None => {
                tracing::info!(environment = %cx.key, folder = cx.folder, "it is looked after from now on");
                tended.insert(cx.key.clone(), Tended::begin(cx.clone()));
            }
        }
    }
    let gone: Vec<EnvironmentKey> =
        tended.keys().filter(|key| !contexts.iter().any(|cx| cx.key == **key)).cloned().collect();
    for key in gone {
        if let Some(one) = tended.remove(&key) {
            tracing::info!(environment = %key, "it is looked after no more");
            one.leave(false);
            ending.push(one);
        }
    }
}

/// Waits for what is under way, at most as long as is fair.
async fn finish(tended: Vec<Tended>, mut leave: watch::Receiver<Leave>) {
    for one in &tended {
        one.leave(false);
    }
    let limit = Instant::now() + FINISH_LIMIT;
    let mut hurried = false;
    let mut last = limit + HAND_OVER_LIMIT;
    while tended.iter().any(|one| !one.task.is_finished()) {
        let now = Instant::now();
        if !hurried && (now >= limit || *leave.borrow_and_update() == Leave::Now) {
            hurried = true;
            last = now + HAND_OVER_LIMIT;
            for one in &tended {
                one.leave(true);
            }
        }
        if hurried && now >= last {
            tracing::warn!(
                "an effect is still under way; whoever comes next looks at what became of it"
            );
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Beats in time, and at once when there is something new to say.
struct Heart<'a> {
    ledger: Arc<dyn Ledger>,
    holder: &'a Holder,
    started_at: Option<Timestamp>,
    last: Option<(Instant, ControllerBeat)>,
}

impl Heart<'_> {
    async fn beat(&mut self, contexts: &[Arc<Context>]) {
        let Some(now) = contexts.first().map(|cx| cx.now()) else { return };
        let started_at = *self.started_at.get_or_insert(now);
        let beat = match beat(self.ledger.as_ref(), self.holder, started_at, contexts).await {
            Ok(beat) => beat,
            // The loops say what is wrong with the ledger.
            Err(_) => return,
        };
        let told = self.last.as_ref();
        if told.is_some_and(|(at, last)| at.elapsed() < BEAT_PERIOD && *last == beat) {
            return;
        }
        if self.ledger.beat(&beat).await.is_ok() {
            if self.last.is_none() {
                let count = beat.environments.len();
                tracing::info!(environments = count, "the ledger knows this controller");
            }
            self.last = Some((Instant::now(), beat));
        }
    }
}
