//! Outcomes of requests on sticky routes one by one, since there the unit of comparison is the session.
//!
//! One log per worker and side: a ring of fixed size with one writer that never waits, and any number of readers,
//! each with a place of its own. A reader that came too late is told that something is lost. Nothing is kept per
//! session: who counts each of them once (the judge, in filters of fixed size) reads here.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Acquire, Ordering::Release},
};

use crate::{latency, wire::SessionSeen};

/// Outcomes that a log holds: 64 KiB, and only on routes that are sticky.
const KEPT: usize = 8192;
/// Outcomes told of one side at once; with more the reading counts as lost.
const TOLD_MAX: usize = 8192;
/// Bits of a session's number that are kept: a reader needs to tell sessions apart, not to name them.
const SESSION_BITS: u32 = 48;
const FAILED: u64 = 1 << 15;

/// One worker's log of one side.
#[derive(Default)]
pub(crate) struct SessionLog {
    entries: OnceLock<Box<[AtomicU64]>>,
    /// How many were ever written.
    head: AtomicU64,
}

/// What a reader was told last, by worker; empty before the first time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(Vec<u64>);

impl SessionLog {
    /// Notes an outcome. Only the log's own worker may call this.
    pub(crate) fn note(&self, session: u64, bucket: Option<usize>) {
        let entries = self.entries.get_or_init(|| (0..KEPT).map(|_| AtomicU64::new(0)).collect());
        let outcome = bucket.map_or(FAILED, |bucket| bucket as u64);
        let head = self.head.load(Acquire);
        // Whoever reads this word knows from the head, stored before it, that an older one was here.
        entries[head as usize % KEPT].store(session << (64 - SESSION_BITS) | outcome, Release);
        self.head.store(head + 1, Release);
    }

    fn head(&self) -> u64 {
        self.head.load(Acquire)
    }

    /// Adds what came since `place` and moves it there; false where that is no longer whole.
    fn read(&self, place: &mut u64, seen: &mut Vec<SessionSeen>) -> bool {
        let from = std::mem::replace(place, self.head());
        if *place == from {
            return true;
        }
        let Some(entries) = self.entries.get() else { return true };
        if *place - from > KEPT as u64 || seen.len() as u64 + (*place - from) > TOLD_MAX as u64 {
            return false;
        }
        seen.extend((from..*place).map(|at| {
            let word = entries[at as usize % KEPT].load(Acquire);
            let outcome = word & ((1 << (64 - SESSION_BITS)) - 1);
            let bucket = (outcome & FAILED == 0).then_some(outcome as u8);
            SessionSeen { session: word >> (64 - SESSION_BITS), bucket }
        }));
        // The writer may be at the place of the oldest one meanwhile.
        self.head() - from < KEPT as u64
    }
}

impl Place {
    /// At the end of all logs: what was noted before is not told.
    pub(crate) fn at_end<'a>(logs: impl Iterator<Item = &'a SessionLog>) -> Self {
        Self(logs.map(SessionLog::head).collect())
    }

    /// What came since the last time; none where a part of it is lost.
    pub(crate) fn read<'a>(
        &mut self,
        logs: impl Iterator<Item = &'a SessionLog>,
    ) -> Option<Vec<SessionSeen>> {
        let mut seen = Vec::new();
        let mut whole = true;
        for (number, log) in logs.enumerate() {
            if number >= self.0.len() {
                self.0.push(0);
            }
            whole &= log.read(&mut self.0[number], &mut seen);
        }
        whole.then_some(seen)
    }
}

const _: () = assert!(latency::BUCKETS <= u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(session: u64, bucket: Option<u8>) -> SessionSeen {
        SessionSeen { session, bucket }
    }

    #[test]
    fn each_reader_is_told_each_outcome_once() {
        let logs = [SessionLog::default(), SessionLog::default()];
        logs[0].note(7, Some(121));
        let mut late = Place::at_end(logs.iter());
        let mut early = Place::default();
        logs[1].note(1 << 50 | 9, None);
        logs[0].note(7, Some(0));
        assert_eq!(late.read(logs.iter()).unwrap(), [seen(7, Some(0)), seen(9, None)]);
        assert_eq!(late.read(logs.iter()).unwrap(), []);
        let all = [seen(7, Some(121)), seen(7, Some(0)), seen(9, None)];
        assert_eq!(early.read(logs.iter()).unwrap(), all);
    }

    #[test]
    fn a_reader_that_comes_too_late_is_told_so_once() {
        let log = [SessionLog::default()];
        let mut place = Place::default();
        for session in 0..KEPT as u64 - 1 {
            log[0].note(session, None);
        }
        assert_eq!(place.read(log.iter()).unwrap().len(), KEPT - 1);
        for session in 0..=KEPT as u64 {
            log[0].note(session, None);
        }
        assert_eq!(place.read(log.iter()), None);
        log[0].note(5, Some(3));
        assert_eq!(place.read(log.iter()).unwrap(), [seen(5, Some(3))]);
    }

    #[test]
    fn a_reader_beside_a_busy_writer_never_reads_what_was_not_written() {
        let log = SessionLog::default();
        let total = 2_000_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..total).for_each(|number| log.note(number, Some((number % 120) as usize)))
            });
            let (mut place, mut last, mut told) = (Place::default(), None, 0_u64);
            while log.head() < total || last.is_none() {
                for SessionSeen { session, bucket } in
                    place.read(std::iter::once(&log)).unwrap_or_default()
                {
                    assert_eq!(bucket, Some((session % 120) as u8));
                    assert!(last < Some(session), "{last:?} {session}");
                    last = Some(session);
                    told += 1;
                }
                std::thread::yield_now();
                if log.head() >= total && last.is_none() {
                    log.note(total, Some((total % 120) as usize));
                }
            }
            assert!(told > 0);
        });
    }
}
