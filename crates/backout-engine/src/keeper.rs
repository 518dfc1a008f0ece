//! Keeps the lease, and with it the dead-man: who can't journal stops renewing both.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backout_core::ports::{AppendError, Lease, Ledger, Router};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

/// Renewals are a second apart, so that a dead-man of a few seconds is never missed.
const PERIOD: Duration = Duration::from_secs(1);

/// What the keeper knows of the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// Renewed in time.
    Yes,
    /// Lost, with the reason. No further effect may start.
    Lost(String),
}

/// An armed dead-man, milliseconds.
type DeadManSlot = Arc<Mutex<Option<u64>>>;

/// When the lease was last known to be ours.
type Renewed = Arc<Mutex<Instant>>;

/// The renewal task; ends when dropped.
pub(crate) struct Keeper {
    pub lease: Lease,
    held: watch::Receiver<Held>,
    taken_over: Arc<AtomicBool>,
    dead_man: DeadManSlot,
    renewed: Renewed,
    task: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    pub fn spawn(ledger: Arc<dyn Ledger>, router: Option<Arc<dyn Router>>, lease: Lease) -> Self {
        let (tx, held) = watch::channel(Held::Yes);
        let dead_man = DeadManSlot::default();
        let taken_over = Arc::new(AtomicBool::new(false));
        let renewed = Renewed::new(Mutex::new(Instant::now()));
        let telling =
            Telling { held: tx, taken_over: taken_over.clone(), renewed: renewed.clone() };
        let task = tokio::spawn(renew(ledger, router, lease.clone(), dead_man.clone(), telling));
        Self { lease, held, taken_over, dead_man, renewed, task }
    }

    /// A whole term went by without a renewal, as in a process that was stopped: it has to be asked for before
    /// anything is done.
    pub fn is_stale(&self) -> bool {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.elapsed() > Duration::from_millis(self.lease.term_ms)
    }

    /// The lease was lost to another command, which goes on with the operation.
    pub fn is_taken_over(&self) -> bool {
        self.taken_over.load(Ordering::SeqCst)
    }

    /// Says which dead-man is armed, or that none is.
    pub fn set_dead_man(&self, after_ms: Option<u64>) {
        *self.dead_man.lock().unwrap_or_else(PoisonError::into_inner) = after_ms;
    }

    pub fn held(&self) -> Held {
        self.held.borrow().clone()
    }

    /// Ends only when the lease is lost.
    pub async fn lost(&self) -> String {
        let mut held = self.held.clone();
        loop {
            if let Held::Lost(why) = &*held.borrow_and_update() {
                return why.clone();
            }
            if held.changed().await.is_err() {
                return "the renewal of the lease ended".to_owned();
            }
        }
    }
}

/// How the task tells of a loss.
struct Telling {
    held: watch::Sender<Held>,
    taken_over: Arc<AtomicBool>,
    renewed: Renewed,
}

impl Telling {
    fn renewed(&self) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn lost(&self, why: String) {
        let _ = self.held.send(Held::Lost(why));
    }
}

async fn renew(
    ledger: Arc<dyn Ledger>,
    router: Option<Arc<dyn Router>>,
    lease: Lease,
    dead_man: DeadManSlot,
    telling: Telling,
) {
    // It was claimed just now: a renewal at once would only stand in the way of what is done first.
    let mut ticks = tokio::time::interval_at(Instant::now() + PERIOD, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let term = Duration::from_millis(lease.term_ms);
    let mut renewed_at = Instant::now();
    loop {
        ticks.tick().await;
        match ledger.renew(&lease).await {
            Ok(()) => {
                renewed_at = Instant::now();
                telling.renewed();
            }
            Err(AppendError::Fenced { current, .. }) => {
                telling.taken_over.store(true, Ordering::SeqCst);
                telling.lost(format!("another command took over with epoch {current}"));
                return;
            }
            Err(error) if renewed_at.elapsed() > term => {
                telling.lost(error.to_string());
                return;
            }
            Err(_) => continue,
        }
        let after_ms = *dead_man.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(router), Some(after_ms)) = (&router, after_ms) {
            // A refusal means that it has fired; the watch loop sees that in the router's frames.
            let _ = router.renew(lease.epoch, after_ms).await;
        }
    }
}
