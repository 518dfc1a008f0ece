//! What moves traffic.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::AdapterError;
use super::step_cx::StepCx;
use super::target::{Marker, Receipt};
use crate::ids::{ReleaseId, Slot, Version};
use crate::model::TripRule;

/// One side that can get traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterSide {
    /// Its own address; none where the router knows by itself.
    pub address: Option<SocketAddr>,
    /// The deployment.
    pub deployment: u64,
    /// The release.
    pub release: ReleaseId,
    /// Its label.
    pub version: Version,
    /// Path of the router's own check before it moves traffic there by itself.
    pub check_path: Option<String>,
}

/// What a router does if the watcher is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadMan {
    /// The side that gets all traffic then.
    pub stable: Slot,
    /// Without a sign for this long, milliseconds.
    pub after_ms: u64,
}

/// A dead-man deadline that ran out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadManFired {
    /// When.
    pub at: Timestamp,
    /// The side it names.
    pub stable: Slot,
    /// Traffic was moved (else held, with the reason).
    pub moved: bool,
    /// Why it was held.
    pub reason: Option<String>,
}

/// A rule by which the router takes the new side out by itself, as soon as its errors are beyond doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    /// The side that is compared with and gets all traffic then; the other one is on trial.
    pub stable: Slot,
    /// The rule.
    pub rule: TripRule,
}

/// A trip that fired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tripped {
    /// When.
    pub at: Timestamp,
    /// The side it names.
    pub stable: Slot,
    /// Traffic was moved (else held, with the reason).
    pub moved: bool,
    /// The sentence behind it.
    pub evidence: String,
    /// Why it was held.
    pub reason: Option<String>,
}

/// What a router does now, read back from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Percent by slot.
    pub weights: BTreeMap<Slot, u8>,
    /// The sides it knows.
    pub sides: BTreeMap<Slot, RouterSide>,
    /// Epoch of the last accepted change.
    pub epoch: u64,
    /// Where it listens.
    pub listen: Option<SocketAddr>,
    /// The armed deadline.
    pub dead_man: Option<DeadMan>,
    /// A deadline that ran out and was not adopted yet.
    pub fired: Option<DeadManFired>,
    /// The armed trip.
    #[serde(default)]
    pub trip: Option<Trip>,
    /// A trip that fired and was not adopted yet.
    #[serde(default)]
    pub tripped: Option<Tripped>,
    /// Why users can't come in although it runs: its address can't be bound.
    #[serde(default)]
    pub unbound: Option<String>,
    /// The ledger that manages it.
    pub marker: Option<Marker>,
}

/// A wanted state: sides, weights and deadline in one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficChange {
    /// The sides.
    pub sides: BTreeMap<Slot, RouterSide>,
    /// Percent by slot: sum 100, or all 0.
    pub weights: BTreeMap<Slot, u8>,
    /// The side the percentages are told of (script routers): the new one.
    pub new_side: Slot,
    /// Name of the stage, for scripts: `10`, `rollback`.
    pub stage: String,
    /// Armed with the same command.
    pub dead_man: Option<DeadMan>,
    /// Armed with the same command.
    pub trip: Option<Trip>,
    /// Requests that hang on a side that goes to 0 are cut and, where idempotent, sent again.
    pub cut: bool,
    /// The caller has adopted what the router did by itself.
    pub acknowledge_fired: bool,
}

/// How one request of a client that stays on its side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOutcome {
    /// A number that stands for the client.
    pub session: u64,
    /// Time to its answer, microseconds; none where it failed.
    pub latency_us: Option<u64>,
}

/// What the requests of clients that stay on their side came to. Not cumulative, and bounded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionOutcomes {
    /// More came than could be told: `seen` says nothing.
    pub lost: bool,
    /// One by one.
    pub seen: Vec<SessionOutcome>,
}

/// Cumulative counters of one side since its deployment was put there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SideCounters {
    /// The deployment they belong to.
    pub deployment: u64,
    /// Requests with an outcome (clients that left are not counted).
    pub requests: u64,
    /// 5xx answers of the release, or none.
    pub failed: u64,
    /// By class, 1xx to 5xx.
    pub status: [u64; 5],
    /// No answer: refused, reset, timed out.
    pub no_answer: u64,
    /// Upper bound of a bucket in microseconds → cumulative count.
    pub latency: Vec<(u64, u64)>,
    /// Requests and failures by endpoint, such as `GET /orders/:id`, in a bounded number of kinds.
    pub endpoints: Vec<(String, u64, u64)>,
    /// Where clients stay on their side: what each of their requests came to, since the frame before.
    pub sessions: Option<SessionOutcomes>,
    /// First failed answer, microseconds since the Unix epoch.
    pub first_failed_us: Option<i64>,
    /// Last failed answer, microseconds since the Unix epoch.
    pub last_failed_us: Option<i64>,
    /// Last answer, microseconds since the Unix epoch.
    pub last_answer_us: Option<i64>,
}

/// What a router streams to whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficFrame {
    /// Changes when the router was restarted and its counters began anew.
    pub instance: String,
    /// When.
    pub at: Timestamp,
    /// Percent by slot.
    pub weights: BTreeMap<Slot, u8>,
    /// Counters by slot.
    pub sides: BTreeMap<Slot, SideCounters>,
    /// A deadline that ran out.
    pub fired: Option<DeadManFired>,
    /// A trip that fired.
    pub tripped: Option<Tripped>,
    /// Why users can't come in although the router runs.
    pub unbound: Option<String>,
}

/// A stream of frames, without naming a runtime.
#[async_trait]
pub trait FrameStream: Send {
    /// The next frame; `None` when the stream ended (the router is gone).
    async fn next(&mut self) -> Option<TrafficFrame>;
}

/// Moves traffic. Weights are read back after every change.
#[async_trait]
pub trait Router: Send + Sync {
    /// Starts what the router itself needs (the proxy process), if it is absent; then the receipt's data holds
    /// `"started": true`. Idempotent.
    ///
    /// # Errors
    /// Permanent when its address is taken.
    async fn ensure(&self, cx: &StepCx) -> Result<Receipt, AdapterError>;

    /// What `ensure` would find in its way, one line each, such as another program at its address.
    ///
    /// # Errors
    /// When it can't be told.
    async fn obstacles(&self) -> Result<Vec<String>, AdapterError> {
        Ok(Vec::new())
    }

    /// What it does now; `None` if it knows nothing of this environment.
    ///
    /// # Errors
    /// Transient when it can't be reached.
    async fn read(&self) -> Result<Option<Traffic>, AdapterError>;

    /// Makes the wanted state and reads it back.
    ///
    /// # Errors
    /// Permanent when refused (stale epoch, other owner, a deadline that ran out, a trip that fired).
    async fn apply(&self, change: &TrafficChange, cx: &StepCx) -> Result<Traffic, AdapterError>;

    /// Puts the armed deadline off.
    ///
    /// # Errors
    /// Permanent when it has run out already.
    async fn renew(&self, epoch: u64, after_ms: u64) -> Result<(), AdapterError>;

    /// Waits until nothing is in flight on a side, at most `timeout`; then the rest is closed.
    ///
    /// # Errors
    /// Transient when it can't be reached.
    async fn drain(
        &self,
        side: Slot,
        epoch: u64,
        timeout: Duration,
    ) -> Result<Receipt, AdapterError>;

    /// Forgets this environment, and ends what the router needs if nothing else uses it.
    ///
    /// # Errors
    /// Transient when it can't be reached.
    async fn remove(&self, epoch: u64) -> Result<Receipt, AdapterError>;

    /// Counters as they change; `None` for routers that do not count.
    ///
    /// # Errors
    /// Transient when it can't be reached.
    async fn frames(&self) -> Result<Option<Box<dyn FrameStream>>, AdapterError>;

    /// Whether dead-man deadlines are honoured.
    fn has_dead_man(&self) -> bool;

    /// Whether trips are honoured.
    fn has_trip(&self) -> bool {
        false
    }
}
