//! What the loops of one environment share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backout_core::ids::EnvironmentKey;
use backout_core::ports::LedgerError;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::beat;
use crate::commands::EngineError;
use crate::context::{Context, Interrupt};
use crate::events::EventSink;

/// From one look to the next.
pub(super) const PERIOD: Duration = Duration::from_millis(400);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// One environment that is looked after.
pub(super) struct Tender {
    pub key: EnvironmentKey,
    contexts: watch::Receiver<Arc<Context>>,
    leaving: watch::Receiver<Interrupt>,
    /// Progress of everything that happens here.
    pub events: EventSink,
    /// Orders that are being run.
    pub ordering: AtomicUsize,
    /// What should run does not.
    pub down: AtomicBool,
    /// It had run for long before it was down.
    pub stayed_up: AtomicBool,
    /// Wakes the guard.
    pub look: Notify,
    said: Mutex<BTreeMap<&'static str, String>>,
}

impl Tender {
    pub fn new(
        key: EnvironmentKey,
        contexts: watch::Receiver<Arc<Context>>,
        leaving: watch::Receiver<Interrupt>,
    ) -> Self {
        Self {
            key,
            contexts,
            leaving,
            events: EventSink::default(),
            ordering: AtomicUsize::new(0),
            down: AtomicBool::new(false),
            stayed_up: AtomicBool::new(false),
            look: Notify::new(),
            said: Mutex::default(),
        }
    }

    /// Today's context.
    pub fn context(&self) -> Context {
        let cx = self.contexts.borrow().clone();
        let (events, interrupt) = (self.events.clone(), self.leaving.clone());
        Context { events, interrupt, ..Context::clone(&cx) }
    }

    /// Nothing new is to be begun.
    pub fn leaves(&self) -> bool {
        // Nobody left who could tell is a reason too.
        *self.leaving.borrow() != Interrupt::None || self.leaving.has_changed().is_err()
    }

    /// Ends once nothing new is to be begun.
    pub fn leaving(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut leaving = self.leaving.clone();
        Box::pin(async move {
            // An error: nobody is left who could tell.
            let _ = leaving.wait_for(|leaving| *leaving != Interrupt::None).await;
        })
    }

    /// Waits, unless there is reason to look at once.
    pub async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.look.notified() => {}
            () = self.leaving() => {}
        }
    }

    /// This controller does what is to be done once.
    pub async fn leads(&self, cx: &Context) -> Result<bool, LedgerError> {
        Ok(beat::leads(&cx.ledger.controllers().await?, &self.key, &cx.holder))
    }

    /// Whether this is news: said once until it is something else, or over.
    pub fn is_news(&self, about: &'static str, words: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(about).is_some_and(|last| last == words) {
            return false;
        }
        said.insert(about, words.to_owned());
        true
    }

    /// Forgets what was said; true if something was.
    pub fn is_over(&self, about: &'static str) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).remove(about).is_some()
    }
}

/// Counts an order while it runs.
pub(super) struct Running<'a>(&'a Tender);

impl<'a> Running<'a> {
    pub fn begin(tender: &'a Tender) -> Self {
        tender.ordering.fetch_add(1, Ordering::SeqCst);
        Self(tender)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.ordering.fetch_sub(1, Ordering::SeqCst);
        self.0.look.notify_one();
    }
}

/// Pauses that grow while something fails.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    failures: u32,
    since: Option<Instant>,
}

impl Pauses {
    /// It failed: says so once, and how long to wait.
    pub fn failed(&mut self, tender: &Tender, cx: &Context, error: &EngineError) -> Duration {
        self.since.get_or_insert_with(Instant::now);
        let words = error.to_string();
        let news = match error {
            EngineError::Ledger(_) => tender.is_news("ledger", ""),
            _ => tender.is_news("failure", &words),
        };
        if news {
            tracing::warn!(environment = %tender.key, "it can't be looked after now, and is tried again: {words}");
        }
        let pause = PERIOD.saturating_mul(1 << self.failures.min(8)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        // Several controllers shall not come back at the same moment.
        pause + pause.mul_f64(f64::from((cx.entropy)()[0]) / 1024.0)
    }

    /// It works.
    pub fn works(&mut self, tender: &Tender) {
        self.failures = 0;
        let Some(since) = self.since.take() else { return };
        let (ledger, other) = (tender.is_over("ledger"), tender.is_over("failure"));
        if ledger || other {
            let seconds = since.elapsed().as_secs();
            tracing::info!(environment = %tender.key, seconds, "it can be looked after again");
        }
    }
}
