//! Sliding windows over counts: a ring of buckets with running sums, so that both adding and
//! asking cost the same however long the window is, and nothing grows.

/// Buckets per window: a window reaches back between 29/30 and 30/30 of its length.
const BUCKETS: usize = 30;

/// What is counted per side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests or checks.
    pub total: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those with a known latency.
    pub timed: u64,
    /// Those at or over the warning level of the response time.
    pub slow_warn: u64,
    /// Those at or over the failing level of the response time.
    pub slow_fail: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.total = self.total.saturating_add(other.total);
        self.failed = self.failed.saturating_add(other.failed);
        self.timed = self.timed.saturating_add(other.timed);
        self.slow_warn = self.slow_warn.saturating_add(other.slow_warn);
        self.slow_fail = self.slow_fail.saturating_add(other.slow_fail);
    }

    fn remove(&mut self, other: &Tally) {
        self.total = self.total.saturating_sub(other.total);
        self.failed = self.failed.saturating_sub(other.failed);
        self.timed = self.timed.saturating_sub(other.timed);
        self.slow_warn = self.slow_warn.saturating_sub(other.slow_warn);
        self.slow_fail = self.slow_fail.saturating_sub(other.slow_fail);
    }

    /// Failed in percent of all; 0 where there is nothing.
    pub fn failed_percent(&self) -> f64 {
        percent(self.failed, self.total)
    }
}

/// A part in percent; 0 where there is nothing.
pub(crate) fn percent(part: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { part as f64 * 100.0 / total as f64 }
}

/// One sliding window of [`Tally`]s.
#[derive(Debug, Clone)]
pub struct Window {
    bucket_ms: i64,
    /// Number of the newest bucket since the epoch of the caller's clock.
    newest: Option<i64>,
    ring: [Tally; BUCKETS],
    sum: Tally,
}

impl Window {
    /// A window of this length; shorter than 30 ms counts as that.
    pub fn new(length_ms: i64) -> Self {
        Window {
            bucket_ms: (length_ms / BUCKETS as i64).max(1),
            newest: None,
            ring: [Tally::default(); BUCKETS],
            sum: Tally::default(),
        }
    }

    /// Lets old buckets fall out.
    fn advance(&mut self, now_ms: i64) {
        let bucket = now_ms.div_euclid(self.bucket_ms);
        let Some(newest) = self.newest else {
            self.newest = Some(bucket);
            return;
        };
        let steps = bucket.saturating_sub(newest);
        if steps <= 0 {
            return;
        }
        if steps >= BUCKETS as i64 {
            self.ring = [Tally::default(); BUCKETS];
            self.sum = Tally::default();
        } else {
            for step in 1..=steps {
                let slot = slot(newest + step);
                let old = std::mem::take(&mut self.ring[slot]);
                self.sum.remove(&old);
            }
        }
        self.newest = Some(bucket);
    }

    /// Adds to the present bucket; a time before it counts as now.
    pub fn add(&mut self, now_ms: i64, tally: &Tally) {
        self.advance(now_ms);
        let bucket = self.newest.unwrap_or_default();
        self.ring[slot(bucket)].add(tally);
        self.sum.add(tally);
    }

    /// What is in the window at a later time, without changing it.
    pub fn sum_at(&self, now_ms: i64) -> Tally {
        let Some(newest) = self.newest else { return Tally::default() };
        let steps = now_ms.div_euclid(self.bucket_ms).saturating_sub(newest);
        if steps <= 0 {
            return self.sum;
        }
        if steps >= BUCKETS as i64 {
            return Tally::default();
        }
        let mut sum = self.sum;
        for step in 1..=steps {
            sum.remove(&self.ring[slot(newest + step)]);
        }
        sum
    }
}

fn slot(bucket: i64) -> usize {
    bucket.rem_euclid(BUCKETS as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(failed: u64) -> Tally {
        Tally { total: 10, failed, ..Tally::default() }
    }

    #[test]
    fn old_buckets_fall_out() {
        let mut window = Window::new(30_000);
        window.add(0, &one(1));
        window.add(15_000, &one(2));
        assert_eq!(window.sum.failed, 3);
        assert_eq!(window.sum_at(29_999).failed, 3);
        assert_eq!(window.sum_at(30_000).failed, 2);
        window.advance(30_000);
        assert_eq!(window.sum, one(2));
        assert_eq!(window.sum_at(45_000), Tally::default());
        window.add(1_000_000, &one(4));
        assert_eq!(window.sum, one(4));
    }

    #[test]
    fn a_clock_going_back_loses_nothing() {
        let mut window = Window::new(30_000);
        window.add(50_000, &one(1));
        window.add(10_000, &one(1));
        assert_eq!(window.sum.failed, 2);
        assert_eq!(window.sum_at(0).failed, 2);
    }

    #[test]
    fn negative_times_work() {
        let mut window = Window::new(30_000);
        window.add(-5_000, &one(1));
        window.add(5_000, &one(1));
        assert_eq!(window.sum.failed, 2);
        assert_eq!(window.sum_at(25_000).failed, 1);
    }
}
