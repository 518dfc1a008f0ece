//! Counters of a side, one shard per worker.
//!
//! Each shard has one writer, its worker's thread, so counting is a load and a store and never contends.
//! A count that implies another (a failure implies an answer or its absence) is stored later and read
//! earlier, so that no snapshot has more failures than trials.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    endpoints::{Endpoints, Kind},
    session_log::{Place, SessionLog},
};
use crate::{
    latency,
    wire::{SessionSeen, SideStats},
};

/// One worker's counters.
#[repr(align(128))]
pub(crate) struct Shard {
    requests: AtomicU64,
    answers: [AtomicU64; 5],
    failed: AtomicU64,
    no_answer: AtomicU64,
    broken: AtomicU64,
    client_left: AtomicU64,
    pool_races: AtomicU64,
    raced: AtomicU64,
    rescued: AtomicU64,
    spared: AtomicU64,
    in_flight: AtomicU64,
    tunnels: AtomicU64,
    first_failed_at: AtomicU64,
    last_failed_at: AtomicU64,
    last_answer_at: AtomicU64,
    latency: [AtomicU64; latency::BUCKETS],
    endpoints: Endpoints,
    sessions: SessionLog,
}

fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Acquire) + 1, Release);
}

fn lower(counter: &AtomicU64) {
    counter.store(counter.load(Acquire).saturating_sub(1), Release);
}

/// Microseconds since 1970.
pub(crate) fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Shard {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            requests: zero(),
            answers: std::array::from_fn(|_| zero()),
            failed: zero(),
            no_answer: zero(),
            broken: zero(),
            client_left: zero(),
            pool_races: zero(),
            raced: zero(),
            rescued: zero(),
            spared: zero(),
            in_flight: zero(),
            tunnels: zero(),
            first_failed_at: zero(),
            last_failed_at: zero(),
            last_answer_at: zero(),
            latency: std::array::from_fn(|_| zero()),
            endpoints: Endpoints::default(),
            sessions: SessionLog::default(),
        }
    }

    pub(crate) fn began(&self) {
        bump(&self.requests);
        bump(&self.in_flight);
    }

    pub(crate) fn over(&self) {
        lower(&self.in_flight);
    }

    /// An answer of the release; returns whether it is a failure.
    pub(crate) fn answered(&self, status: u16, latency: Duration) -> bool {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        bump(&self.answers[class]);
        if class == 4 {
            self.fail();
            return true;
        }
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        bump(&self.latency[latency::bucket(latency_us)]);
        false
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// By endpoint: a trial, a failure, or both.
    pub(crate) fn endpoint(&self, kind: Kind, trial: bool, failed: bool) {
        self.endpoints.count(kind, trial, failed);
    }

    /// What a client on a sticky route got: an answer after so long, or a failure.
    pub(crate) fn session(&self, session: Option<u64>, answered_in: Option<Duration>) {
        let Some(session) = session else { return };
        let bucket = answered_in
            .map(|latency| latency::bucket(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)));
        self.sessions.note(session, bucket);
    }

    pub(crate) fn answer_ended(&self) {
        self.last_answer_at.store(unix_micros(), Release);
    }

    pub(crate) fn no_answer(&self) {
        bump(&self.no_answer);
        self.fail();
    }

    /// An answer broke off; `failed_already` where its status counted as a failure.
    pub(crate) fn broke(&self, failed_already: bool) {
        bump(&self.broken);
        if !failed_already {
            self.fail();
        }
    }

    pub(crate) fn client_left(&self) {
        bump(&self.client_left);
    }

    pub(crate) fn pool_race(&self) {
        bump(&self.pool_races);
    }

    pub(crate) fn raced(&self) {
        bump(&self.raced);
    }

    pub(crate) fn rescued(&self) {
        bump(&self.rescued);
    }

    pub(crate) fn spared(&self) {
        bump(&self.spared);
    }

    pub(crate) fn tunnel_began(&self) {
        bump(&self.tunnels);
    }

    pub(crate) fn tunnel_over(&self) {
        lower(&self.tunnels);
    }

    fn fail(&self) {
        let now = unix_micros();
        if self.first_failed_at.load(Acquire) == 0 {
            self.first_failed_at.store(now, Release);
        }
        self.last_failed_at.store(now, Release);
        bump(&self.failed);
    }
}

/// All shards of one deployment on one side.
pub(crate) struct Counters {
    shards: Box<[Shard]>,
}

impl Counters {
    pub(crate) fn new(workers: usize) -> Self {
        Self { shards: (0..workers).map(|_| Shard::new()).collect() }
    }

    pub(crate) fn shard(&self, worker: usize) -> &Shard {
        &self.shards[worker]
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.sum(|shard| &shard.in_flight)
    }

    /// Requests whose outcome says something about the release, and those of them that failed. The failures are
    /// read first, so that there are never more of them than trials.
    pub(crate) fn trials(&self) -> (u64, u64) {
        let failed = self.sum(|shard| &shard.failed);
        let answers: u64 = (0..5).map(|class| self.sum(|shard| &shard.answers[class])).sum();
        (answers + self.sum(|shard| &shard.no_answer), failed)
    }

    /// Where the outcomes of sessions that are still to come begin.
    pub(crate) fn sessions_end(&self) -> Place {
        Place::at_end(self.shards.iter().map(|shard| &shard.sessions))
    }

    /// Outcomes of sessions since this place; none where a part of them is lost.
    pub(crate) fn sessions_since(&self, place: &mut Place) -> Option<Vec<SessionSeen>> {
        place.read(self.shards.iter().map(|shard| &shard.sessions))
    }

    fn sum(&self, of: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| of(shard).load(Acquire)).sum()
    }

    fn times(&self, of: impl Fn(&Shard) -> &AtomicU64) -> impl Iterator<Item = u64> {
        self.shards.iter().map(move |shard| of(shard).load(Acquire)).filter(|at| *at > 0)
    }

    /// The sums; who the side is must be filled in by the caller.
    pub(crate) fn snapshot(&self) -> SideStats {
        let failed = self.sum(|s| &s.failed);
        let broken = self.sum(|s| &s.broken);
        let mut latency: Vec<u64> =
            (0..latency::BUCKETS).map(|i| self.sum(|s| &s.latency[i])).collect();
        latency.truncate(latency.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1));
        let mut endpoints = BTreeMap::new();
        self.shards.iter().for_each(|shard| shard.endpoints.add_to(&mut endpoints));
        SideStats {
            endpoints,
            failed,
            broken,
            latency,
            no_answer: self.sum(|s| &s.no_answer),
            answers: std::array::from_fn(|class| self.sum(|s| &s.answers[class])),
            client_left: self.sum(|s| &s.client_left),
            raced: self.sum(|s| &s.raced),
            pool_races: self.sum(|s| &s.pool_races),
            rescued: self.sum(|s| &s.rescued),
            spared: self.sum(|s| &s.spared),
            tunnels: self.sum(|s| &s.tunnels),
            in_flight: self.sum(|s| &s.in_flight),
            requests: self.sum(|s| &s.requests),
            first_failed_at: self.times(|s| &s.first_failed_at).min(),
            last_failed_at: self.times(|s| &s.last_failed_at).max(),
            last_answer_at: self.times(|s| &s.last_answer_at).max(),
            ..SideStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_shards_and_counts_a_broken_5xx_once() {
        let counters = Counters::new(2);
        for worker in 0..2 {
            let shard = counters.shard(worker);
            shard.began();
            let failed = shard.answered(503, Duration::from_millis(3));
            shard.broke(failed);
            shard.over();
        }
        counters.shard(1).began();
        assert!(!counters.shard(1).answered(200, Duration::from_micros(10)));
        let sums = counters.snapshot();
        assert_eq!((sums.requests, sums.failed, sums.broken, sums.in_flight), (3, 2, 2, 1));
        assert_eq!(sums.answers, [0, 1, 0, 0, 2]);
        assert_eq!(sums.latency, vec![1]);
        assert_eq!(sums.trials(), 3);
        assert!(sums.first_failed_at <= sums.last_failed_at && sums.first_failed_at.is_some());
        assert_eq!(sums.last_answer_at, None);
    }
}
