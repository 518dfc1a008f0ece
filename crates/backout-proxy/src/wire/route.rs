//! Routes, their sides and the dead-man.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One of the two sides of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SideName {
    /// The first side.
    A,
    /// The second side.
    B,
}

impl SideName {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// 0 or 1.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for SideName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// Percent of new requests per side; a side that is left out has none. The sum is 100, or 0 for no traffic at all.
pub type Weights = BTreeMap<SideName, u8>;

/// Marks which ledger manages a route, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Id of the ledger.
    pub ledger: String,
    /// The app.
    pub app: String,
    /// Its environment.
    pub environment: String,
}

/// Who gives a command: the ledger and the epoch of its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Id of the ledger; without it only the epoch is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<String>,
    /// The lease's epoch; one older than the route's is refused.
    pub epoch: u64,
}

/// A release that answers on an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideSpec {
    /// Where it listens.
    pub upstream: SocketAddr,
    /// Number of its deployment; counters start anew when it changes.
    pub deployment: u64,
    /// Id of its release.
    pub release: String,
    /// Its version label.
    pub version: String,
    /// Path for the proxy's own check before the dead-man moves traffic here; without it a TCP connect is the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_path: Option<String>,
}

/// Arms the dead-man together with the weights it guards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadManArm {
    /// Where traffic goes when nobody renews.
    pub stable: SideName,
    /// The deadline, from now.
    pub after_ms: u64,
}

/// Arms the trip together with the weights it watches: the side that is not `stable` is on trial, and loses its
/// traffic as soon as its errors are beyond doubt. Fractions are parts of a trillion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TripArm {
    /// Where traffic goes when it fires, and what the side on trial is compared with.
    pub stable: SideName,
    /// The highest probability of firing over a harmless release, over all tests of one deployment here.
    pub false_trip_ppt: u64,
    /// An error rate of the side on trial up to which errors are no reason.
    pub harmless_ppt: u64,
    /// Relative increase over the stable side's error rate that is no reason.
    pub tolerance_ppt: u64,
    /// Part of the budget for a fault that is there from the start; the rest is for what begins later.
    pub from_start_ppt: u64,
    /// Muted for this long after the first request of the side on trial.
    pub warm_up_ms: u64,
    /// How long the watch may last.
    pub watch_ms: u64,
}

/// Everything that one put carries: sides, weights, dead-man and trip change together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutArgs {
    /// `app/environment/service`.
    pub route: String,
    /// The route's own address; port 0 takes a free one and keeps it.
    pub listen: SocketAddr,
    /// Which ledger manages it.
    pub owner: Owner,
    /// The lease's epoch.
    pub epoch: u64,
    /// The sides.
    pub sides: BTreeMap<SideName, SideSpec>,
    /// Their weights.
    pub weights: Weights,
    /// The dead-man. It is armed only where both sides have weight, since only a split needs one.
    #[serde(default)]
    pub dead_man: Option<DeadManArm>,
    /// The trip. It too is armed only where both sides have weight: there is nothing to compare otherwise.
    #[serde(default)]
    pub trip: Option<TripArm>,
    /// Take the route over from another ledger; the epoch then starts anew.
    #[serde(default)]
    pub take_over: bool,
    /// The sender knows that the dead-man or the trip fired and has adopted that.
    #[serde(default)]
    pub acknowledge_fired: bool,
    /// Cancel what waits on a side that this put takes to 0, and send it again elsewhere where it is idempotent.
    #[serde(default)]
    pub rescue: bool,
    /// Clients stay on the side that they were drawn to, as long as it has weight; a cookie tells them apart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sticky: bool,
    /// How long a release may take to begin its answer; 60 s if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_timeout_ms: Option<u64>,
}

/// Arguments of a drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainArgs {
    /// `app/environment/service`.
    pub route: String,
    /// Which side; it must have weight 0.
    pub side: SideName,
    /// Who asks.
    #[serde(flatten)]
    pub holder: Holder,
    /// How long to wait at most.
    pub timeout_ms: u64,
    /// Close at once: idempotent requests without an answer are sent to the other side, all else ends.
    #[serde(default)]
    pub cut: bool,
}

/// An armed dead-man.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadManState {
    /// Where traffic goes when nobody renews.
    pub stable: SideName,
    /// The deadline it was last armed with.
    pub after_ms: u64,
    /// What is left of it.
    pub remaining_ms: u64,
}

/// What the dead-man, or the trip, did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadManOutcome {
    /// All weight is on the stable side.
    Moved,
    /// The stable side did not pass the check; nothing moved.
    Held,
}

/// Record of a dead-man that fired; it stays until a put acknowledges it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadManFired {
    /// When.
    pub at: Timestamp,
    /// The weights before.
    pub from: Weights,
    /// The stable side.
    pub moved_to: SideName,
    /// Whether it moved.
    pub outcome: DeadManOutcome,
    /// Why, for people.
    pub reason: String,
    /// The epoch that had armed it.
    pub epoch: u64,
}

/// Record of a trip that fired; it stays until a put acknowledges it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TripFired {
    /// When.
    pub at: Timestamp,
    /// The weights before.
    pub from: Weights,
    /// The stable side.
    pub moved_to: SideName,
    /// Whether it moved.
    pub outcome: DeadManOutcome,
    /// The figures, in a sentence.
    pub evidence: String,
    /// Why it held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The epoch that had armed it.
    pub epoch: u64,
}

/// A route as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteState {
    /// `app/environment/service`.
    pub route: String,
    /// Which ledger manages it.
    pub owner: Owner,
    /// The address as it was put.
    pub listen: SocketAddr,
    /// The address that is bound; none while binding fails after a restart (it is tried again each second).
    pub bound: Option<SocketAddr>,
    /// The newest epoch seen.
    pub epoch: u64,
    /// The sides.
    pub sides: BTreeMap<SideName, SideSpec>,
    /// Their weights.
    pub weights: Weights,
    /// How long a release may take to begin its answer.
    pub response_timeout_ms: u64,
    /// Clients stay on their side.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sticky: bool,
    /// The dead-man, while armed.
    pub dead_man: Option<DeadManState>,
    /// What it did, until acknowledged.
    pub dead_man_fired: Option<DeadManFired>,
    /// The trip, while armed.
    #[serde(default)]
    pub trip: Option<TripArm>,
    /// What it did, until acknowledged.
    #[serde(default)]
    pub trip_fired: Option<TripFired>,
    /// Why the address is not bound.
    #[serde(default)]
    pub unbound: Option<String>,
}
