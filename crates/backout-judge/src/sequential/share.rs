//! Guards the one thing the relative-risk test takes on trust: the canary's share of requests.
//!
//! Under random routing the share in force is exact, and then this changes nothing. Under sticky
//! routing one busy client can give the canary far more requests than its share, and their
//! ordinary errors would look like the canary's fault. If far more requests than announced reach
//! the canary (five standard deviations), the share that was observed takes the place of the
//! announced one. A share that is too high only makes the test slower, never wrong.

/// Recent requests are forgotten by half once there are this many.
const MEMORY: f64 = 1024.0;
const SUSPICIOUS: f64 = 5.0;

/// Requests of both sides in recent time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ShareGuard {
    canary: f64,
    total: f64,
}

impl ShareGuard {
    /// Takes a batch in and says which share its errors should be judged by.
    pub fn observe(&mut self, announced: f64, canary: u64, baseline: u64) -> f64 {
        let (canary, total) = (canary as f64, canary as f64 + baseline as f64);
        self.canary += canary;
        self.total += total;
        let mut share = announced;
        if excess(announced, self.canary, self.total) > SUSPICIOUS {
            share = share.max(self.canary / self.total);
        }
        if excess(announced, canary, total) > SUSPICIOUS {
            share = share.max(canary / total);
        }
        while self.total > MEMORY {
            self.canary *= 0.5;
            self.total *= 0.5;
        }
        share.min(0.999)
    }
}

/// By how many standard deviations the canary has more requests than it should.
fn excess(share: f64, canary: f64, total: f64) -> f64 {
    let expected = share * total;
    // The +1 keeps a handful of requests at a tiny share from looking like a deviation.
    (canary - expected - 1.0) / (expected * (1.0 - share) + 1.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_chance_changes_nothing() {
        let mut guard = ShareGuard::default();
        let mut state = 7u64;
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let canary = (state >> 33).is_multiple_of(20);
            assert_eq!(guard.observe(0.05, u64::from(canary), u64::from(!canary)), 0.05);
        }
    }

    #[test]
    fn a_flood_into_the_canary_raises_the_share() {
        let mut guard = ShareGuard::default();
        assert_eq!(guard.observe(0.05, 5, 95), 0.05);
        assert!(guard.observe(0.05, 200, 95) > 0.6);
        // Later it is forgotten.
        for _ in 0..40 {
            guard.observe(0.05, 5, 95);
        }
        assert_eq!(guard.observe(0.05, 5, 95), 0.05);
    }
}
