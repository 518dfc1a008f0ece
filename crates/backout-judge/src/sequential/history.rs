//! Without a baseline beside it: against the service's own past.
//!
//! The past is what the caller recorded (best of the same hour of day), or, once the canary has all
//! the traffic and nothing was given, what the baseline did in this very watch.
//!
//! The reference rate is the upper end of a Wilson interval (1927) at three standard errors around
//! the recorded rate, times [`SLACK`], and never below what is harmless. Against a *fixed* rate the
//! Bernoulli mixture keeps its bound exactly; that the past bounds the present is an assumption
//! (traffic drifts, dependencies fail), so this bound is only as good as the recorded past, and the
//! evidence says what it was compared with.

use super::mixture::Mixture;
use super::schedule::{Begun, Schedule};

/// Hours and weekdays differ by this much without any fault.
const SLACK: f64 = 3.0;
/// A shorter past is no reference.
const NEEDED: u64 = 1_000;
const ODDS: [f64; 6] = [2.0, 4.0, 10.0, 30.0, 100.0, 1000.0];
const PRIOR: [f64; 6] = [1.0 / 6.0; 6];

/// The test against the past.
#[derive(Debug, Clone)]
pub(crate) struct HistoryTest {
    mixture: Mixture<6>,
    harmless: f64,
    /// What the past was: total and failed.
    pub reference: Option<(u64, u64)>,
    /// What came since there was no baseline: total and failed.
    pub seen: (u64, u64),
    begun: Begun,
    began_ms: Option<i64>,
}

impl HistoryTest {
    pub fn new(harmless: f64) -> Self {
        HistoryTest {
            mixture: Mixture::new(&PRIOR),
            harmless: harmless.clamp(0.0, 0.5),
            reference: None,
            seen: (0, 0),
            begun: Begun::default(),
            began_ms: None,
        }
    }

    /// Each failure is a session of its own from now on, and the worst is left out.
    pub fn leave_one_out(&mut self) {
        self.mixture.leave_one_out();
    }

    pub fn set_reference(&mut self, total: u64, failed: u64) {
        if total < NEEDED {
            return;
        }
        self.reference = Some((total, failed.min(total)));
        let rate = (SLACK * wilson_upper(total, failed.min(total))).max(self.harmless);
        self.mixture.set_rate(&ODDS, rate.min(0.9));
    }

    pub fn record(&mut self, at_ms: i64, ok: u64, failed: u64, schedule: &Schedule) {
        if self.reference.is_none() || (ok == 0 && failed == 0) {
            return;
        }
        let began_ms = *self.began_ms.get_or_insert(at_ms);
        let mass = self.begun.advance(schedule, at_ms.saturating_sub(began_ms));
        self.mixture.start(mass, &PRIOR);
        self.mixture.record(failed, ok);
        self.seen.0 = self.seen.0.saturating_add(ok).saturating_add(failed);
        self.seen.1 = self.seen.1.saturating_add(failed);
    }

    pub fn value(&self, from_start: f64) -> f64 {
        self.mixture.value(from_start)
    }
}

/// Upper end of the Wilson score interval at three standard errors.
fn wilson_upper(total: u64, failed: u64) -> f64 {
    const Z: f64 = 3.0;
    let n = total as f64;
    let rate = failed as f64 / n;
    let middle = rate + Z * Z / (2.0 * n);
    let half = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
    (middle + half) / (1.0 + Z * Z / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        // p = 0.01, n = 10 000, z = 3: (0.01 + 0.00045 + 3·sqrt(9.9e-7 + 2.25e-8)) / 1.0009.
        assert!((wilson_upper(10_000, 100) - 0.013_456_6).abs() < 1e-6);
        // None of 1000 leaves 9/(1000+9).
        assert!((wilson_upper(1_000, 0) - 9.0 / 1_009.0).abs() < 1e-12);
    }
}
