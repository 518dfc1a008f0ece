//! The counts behind an alarm, and the sentence made of them.

use super::latency::{QUANTILES, Slow};
use crate::words;

/// Recent means the present and the last of these.
const EPOCH_MS: i64 = 5 * 60_000;

/// Counts of both sides.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    total: [u64; 2],
    failed: [u64; 2],
    slow: [Slow; 2],
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        for side in 0..2 {
            self.total[side] = self.total[side].saturating_add(other.total[side]);
            self.failed[side] = self.failed[side].saturating_add(other.failed[side]);
            for (own, more) in self.slow[side].iter_mut().zip(other.slow[side]) {
                *own = own.saturating_add(more);
            }
        }
    }
}

/// Counts since the beginning and of recent time: a fault that began after an hour would vanish in
/// the figures of the whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    all: [u64; 2],
    baseline_failed: u64,
    began_ms: Option<i64>,
    epoch_ms: i64,
    now_ms: i64,
    epoch: Counts,
    last_epoch: Option<Counts>,
    older: bool,
}

impl Ledger {
    /// Requests of a reading, muted or not.
    pub fn seen(&mut self, total: [u64; 2], failed: [u64; 2]) {
        self.baseline_failed = self.baseline_failed.saturating_add(failed[1]);
        for (all, more) in self.all.iter_mut().zip(total) {
            *all = all.saturating_add(more);
        }
    }

    /// A reading that is judged.
    pub fn add(&mut self, at_ms: i64, total: [u64; 2], failed: [u64; 2], slow: [Slow; 2]) {
        if self.began_ms.is_none() {
            self.began_ms = Some(at_ms);
            self.epoch_ms = at_ms;
        }
        let since_ms = at_ms.saturating_sub(self.epoch_ms);
        if since_ms >= EPOCH_MS {
            self.older |= self.last_epoch.is_some() || since_ms >= 2 * EPOCH_MS;
            let last = std::mem::take(&mut self.epoch);
            self.last_epoch = Some(if since_ms < 2 * EPOCH_MS { last } else { Counts::default() });
            self.epoch_ms = at_ms;
        }
        self.now_ms = at_ms;
        self.epoch.add(&Counts { total, failed, slow });
    }

    pub fn requests(&self) -> [u64; 2] {
        self.all
    }

    /// Total and failed requests of the baseline in the whole watch.
    pub fn baseline(&self) -> (u64, u64) {
        (self.all[1], self.baseline_failed)
    }

    fn recent(&self) -> Counts {
        let mut counts = self.epoch;
        if let Some(last) = &self.last_epoch {
            counts.add(last);
        }
        counts
    }

    /// " in the last 7 min", unless that is everything.
    fn when(&self) -> String {
        if !self.older {
            return String::new();
        }
        let before_ms = if self.last_epoch.is_some() { EPOCH_MS } else { 0 };
        let ms = self.now_ms.saturating_sub(self.epoch_ms).saturating_add(before_ms);
        format!(" in the last {}", words::duration(ms))
    }

    /// The figures of errors.
    pub fn errors(&self) -> String {
        let counts = self.recent();
        format!(
            "canary errors {}, baseline {}{}",
            words::rate(counts.failed[0], counts.total[0]),
            words::rate_of(counts.failed[1], counts.total[1]),
            self.when(),
        )
    }

    /// The figures of latency: `strongest` is (quantile, its value for the baseline, the limit
    /// for the canary).
    pub fn latency(&self, strongest: Option<(usize, u64, u64)>) -> String {
        let counts = self.recent();
        let Some((quantile, us, limit_us)) = strongest else {
            return "canary is slower".to_owned();
        };
        let slow = |side: usize| counts.slow[side][quantile];
        let limit = if limit_us == us {
            String::new()
        } else {
            format!(" (for the canary {})", words::latency(limit_us as f64))
        };
        format!(
            "canary slower than the baseline's p{:.0} of {}{limit} in {}, baseline in {}{}",
            QUANTILES[quantile] * 100.0,
            words::latency(us as f64),
            words::rate(slow(0), counts.total[0]),
            words::rate_of(slow(1), counts.total[1]),
            self.when(),
        )
    }
}
