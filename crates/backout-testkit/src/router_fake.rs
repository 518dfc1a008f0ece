//! A router in memory that is stricter than the real ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ids::{LedgerId, Slot};
use backout_core::ports::{
    AdapterError, FrameStream, Receipt, Router, StepCx, Traffic, TrafficChange, TrafficFrame,
};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::faults::FaultPlan;
use crate::router_fake_state::State;

/// Moves no traffic, and keeps a book of it. Clones share one book.
///
/// Weights that make no whole, sides without a weight and traffic before `ensure` are *violations*: the call
/// fails, and [`FakeRouter::assert_clean`] panics. An older epoch is refused, as real routers do. An armed
/// deadline runs on tokio's clock (also a paused one) unless it is renewed. Faults are named `ensure`, `read`,
/// `apply`, `renew`, `drain` and `remove`.
#[derive(Clone)]
pub struct FakeRouter {
    state: Arc<Mutex<State>>,
    faults: FaultPlan,
    frames: Arc<Mutex<Option<broadcast::Sender<TrafficFrame>>>>,
}

impl FakeRouter {
    /// A router that knows nothing yet.
    #[must_use]
    pub fn new(ledger: LedgerId) -> Self {
        let (sender, _) = broadcast::channel(1024);
        Self {
            state: Arc::new(Mutex::new(State::new(ledger))),
            faults: FaultPlan::new(),
            frames: Arc::new(Mutex::new(Some(sender))),
        }
    }

    /// The planned faults.
    #[must_use]
    pub fn faults(&self) -> &FaultPlan {
        &self.faults
    }

    /// A split without a deadline becomes a violation.
    pub fn needs_dead_man(&self) {
        self.state().needs_dead_man = true;
    }

    /// Whether the stable side passes the router's own check when a deadline runs out.
    pub fn set_stable_is_healthy(&self, healthy: bool) {
        self.state().stable_is_healthy = healthy;
    }

    /// Whether the router can be reached.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.state().unreachable = unreachable;
    }

    /// The armed deadline runs out now.
    pub fn fire_dead_man(&self) {
        self.state().fire();
    }

    /// The armed trip fires now, with this evidence.
    pub fn fire_trip(&self, evidence: &str) {
        self.state().trip(evidence);
    }

    /// What it would answer to a `read` now.
    #[must_use]
    pub fn traffic(&self) -> Option<Traffic> {
        self.state().traffic.clone()
    }

    /// Percent by slot now.
    #[must_use]
    pub fn weights(&self) -> BTreeMap<Slot, u8> {
        let mut state = self.state();
        state.settle();
        state.weights()
    }

    /// All changes that were made, in order.
    #[must_use]
    pub fn applied(&self) -> Vec<TrafficChange> {
        self.state().applied.clone()
    }

    /// Percent of each change's new side with its stage: `10 % b (10)`.
    #[must_use]
    pub fn story(&self) -> Vec<String> {
        self.applied()
            .iter()
            .map(|c| {
                let percent = c.weights.get(&c.new_side).copied().unwrap_or_default();
                format!("{percent} % {} ({})", c.new_side, c.stage)
            })
            .collect()
    }

    /// Sends a frame to all who watch.
    pub fn push_frame(&self, frame: TrafficFrame) {
        if let Some(sender) = self.sender().as_ref() {
            // Nobody watches: as with a real router, it is gone.
            let _ = sender.send(frame);
        }
    }

    /// How many watch.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.sender().as_ref().map_or(0, broadcast::Sender::receiver_count)
    }

    /// All streams of frames end, as if the router were gone. The next [`Router::frames`] works again.
    pub fn end_frames(&self) {
        let (sender, _) = broadcast::channel(1024);
        *self.sender() = Some(sender);
    }

    /// Calls that a correct caller never makes.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// # Panics
    /// If there was a violation.
    pub fn assert_clean(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "the router was used against its rules: {violations:#?}");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sender(&self) -> MutexGuard<'_, Option<broadcast::Sender<TrafficFrame>>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an effect, or fails as planned.
    async fn faulty<T>(
        &self,
        name: &str,
        effect: impl FnOnce(&mut State) -> Result<T, AdapterError>,
    ) -> Result<T, AdapterError> {
        match self.faults.next(name, true) {
            Some(fault) => {
                if fault.has_effect() {
                    effect(&mut self.state())?;
                }
                Err(fault.answer(name).await)
            }
            None => effect(&mut self.state()),
        }
    }
}

/// Frames that a test pushes.
struct Pushed {
    receiver: broadcast::Receiver<TrafficFrame>,
}

#[async_trait]
impl FrameStream for Pushed {
    async fn next(&mut self) -> Option<TrafficFrame> {
        loop {
            match self.receiver.recv().await {
                Ok(frame) => return Some(frame),
                // A slow reader misses frames; counters are cumulative, so nothing is lost.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

#[async_trait]
impl Router for FakeRouter {
    async fn ensure(&self, _cx: &StepCx) -> Result<Receipt, AdapterError> {
        self.faulty("ensure", |state| {
            state.ensured += 1;
            Ok(Receipt::default())
        })
        .await
    }

    async fn read(&self) -> Result<Option<Traffic>, AdapterError> {
        if let Some(fault) = self.faults.next("read", false) {
            return Err(fault.answer("read").await);
        }
        let mut state = self.state();
        state.reachable()?;
        Ok(state.traffic.clone())
    }

    async fn apply(&self, change: &TrafficChange, cx: &StepCx) -> Result<Traffic, AdapterError> {
        self.state().admit(change, cx)?;
        self.faulty("apply", |state| Ok(state.make(change, cx))).await
    }

    async fn renew(&self, epoch: u64, after_ms: u64) -> Result<(), AdapterError> {
        self.faulty("renew", |state| {
            state.reachable()?;
            state.fence(epoch)?;
            if state.deadline.is_none() {
                return Err(AdapterError::permanent("failed to renew: no deadline is armed"));
            }
            state.deadline = Some(Instant::now() + Duration::from_millis(after_ms));
            Ok(())
        })
        .await
    }

    async fn drain(
        &self,
        side: Slot,
        epoch: u64,
        _timeout: Duration,
    ) -> Result<Receipt, AdapterError> {
        self.faulty("drain", |state| {
            state.reachable()?;
            state.fence(epoch)?;
            if state.weights().get(&side).copied().unwrap_or_default() > 0 {
                return Err(
                    state.violation(format!("drain of side {side}, which still gets traffic"))
                );
            }
            Ok(Receipt::default())
        })
        .await
    }

    async fn remove(&self, epoch: u64) -> Result<Receipt, AdapterError> {
        self.faulty("remove", |state| {
            state.reachable()?;
            state.fence(epoch)?;
            state.traffic = None;
            state.deadline = None;
            state.ensured = 0;
            Ok(Receipt::default())
        })
        .await
    }

    async fn frames(&self) -> Result<Option<Box<dyn FrameStream>>, AdapterError> {
        self.state().reachable()?;
        let receiver = self.sender().as_ref().map(broadcast::Sender::subscribe);
        Ok(receiver.map(|receiver| Box::new(Pushed { receiver }) as Box<dyn FrameStream>))
    }

    fn has_dead_man(&self) -> bool {
        true
    }

    fn has_trip(&self) -> bool {
        true
    }
}
