//! The statistics that a watcher follows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DeadManFired, DeadManState, SideName, TripFired, Weights};

/// What one side did since its deployment came to this proxy.
///
/// Counters only grow while [`StatsFrame::instance`] and [`deployment`](Self::deployment) stay the same.
/// `requests` = the sum of `answers` + `no_answer` + `client_left` + `raced` + `rescued` + those still waiting.
/// Trials of the release are the sum of `answers` + `no_answer`; its errors are `failed`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideStats {
    /// Number of the deployment.
    pub deployment: u64,
    /// Id of its release.
    pub release: String,
    /// Its version label.
    pub version: String,
    /// Requests given to the side.
    pub requests: u64,
    /// Answers by status class, 1xx to 5xx.
    pub answers: [u64; 5],
    /// Failures of the release: 5xx answers, no answer, and answers that broke off.
    pub failed: u64,
    /// Of these: refused, reset, or timed out before an answer began.
    pub no_answer: u64,
    /// Of these: answers that broke off (they are also in `answers`, and counted once in `failed`).
    pub broken: u64,
    /// The client left before an answer began: neither success nor failure.
    pub client_left: u64,
    /// Kept-alive connections that the release had closed just as a request was sent on them, whether
    /// resent or not: never counted against the release.
    pub pool_races: u64,
    /// Of these: requests that could not be resent, so that the client got a 502.
    pub raced: u64,
    /// Requests taken from the side before an answer began, because its weight was taken away.
    pub rescued: u64,
    /// Requests that failed here and were spared by resending them to the other side.
    pub spared: u64,
    /// Requests (tunnels included) that are not over.
    pub in_flight: u64,
    /// Of these: upgraded tunnels.
    pub tunnels: u64,
    /// First failure, microseconds since 1970.
    pub first_failed_at: Option<u64>,
    /// Latest failure.
    pub last_failed_at: Option<u64>,
    /// Latest time that an answer of the release ended.
    pub last_answer_at: Option<u64>,
    /// Time to the head of the answer, answers below 500 only, as counts per bucket (see [`crate::latency`]);
    /// trailing zeros are left out. For a request with a body the time starts at the end of that body.
    pub latency: Vec<u64>,
    /// Trials and failures by endpoint, such as `GET /orders/:id`; at most some 64 kinds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<String, (u64, u64)>,
    /// Where clients stay on their side: outcomes of trials one by one since the frame before. None of what was
    /// before the first frame of a subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Sessions>,
}

/// Outcomes of requests of clients that stay on their side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// More came than is held for a reader that is late: `seen` is empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// One by one.
    pub seen: Vec<SessionSeen>,
}

/// How one request of a client ended, written as `[session, bucket]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u64, i16)", try_from = "(u64, i16)")]
pub struct SessionSeen {
    /// A number that stands for the client.
    pub session: u64,
    /// The bucket (see [`crate::latency`]) of the time to its answer; none for a failure, written as -1.
    pub bucket: Option<u8>,
}

impl From<SessionSeen> for (u64, i16) {
    fn from(seen: SessionSeen) -> Self {
        (seen.session, seen.bucket.map_or(-1, i16::from))
    }
}

impl TryFrom<(u64, i16)> for SessionSeen {
    type Error = String;

    fn try_from((session, bucket): (u64, i16)) -> Result<Self, String> {
        let bucket = match bucket {
            -1 => None,
            bucket => Some(
                u8::try_from(bucket).map_err(|_| format!("{bucket} is no bucket of latencies"))?,
            ),
        };
        Ok(Self { session, bucket })
    }
}

impl SideStats {
    /// Requests whose outcome says something about the release.
    #[must_use]
    pub fn trials(&self) -> u64 {
        self.answers.iter().sum::<u64>() + self.no_answer
    }
}

/// A moment of a route, as told to subscribers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsFrame {
    /// `app/environment/service`.
    pub route: String,
    /// Random id of this start of the proxy.
    pub instance: String,
    /// When it was taken, microseconds since 1970.
    pub at: u64,
    /// The newest epoch seen.
    pub epoch: u64,
    /// The weights now.
    pub weights: Weights,
    /// The dead-man, while armed.
    pub dead_man: Option<DeadManState>,
    /// What it did, until acknowledged.
    pub dead_man_fired: Option<DeadManFired>,
    /// What the trip did, until acknowledged.
    #[serde(default)]
    pub trip_fired: Option<TripFired>,
    /// Why no user can come in: the route's address can't be bound.
    #[serde(default)]
    pub unbound: Option<String>,
    /// Per side.
    pub sides: BTreeMap<SideName, SideStats>,
}
