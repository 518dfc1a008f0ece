//! The other direction: is it shown that the canary is *no worse*? A stage may then be left early.
//!
//! "No worse" must allow for something, or nothing could ever show it. Shown is, each at 95 %:
//! the canary's errors are less than twice as frequent as the baseline's or below five times the
//! harmless rate, and it is less than twice as often slower than the baseline's 90th percentile.
//! The error's null is an intersection, under which the mean of both e-values is one; both nulls
//! must be rejected (Berger 1982, intersection-union test), so no budget is divided.

use super::latency::Slow;
use super::mixture::Mixture;

/// One over the probability to call a release that is worse no worse.
const LINE: f64 = 20.0;
const TIMES: f64 = 2.0;
const RISKS: [f64; 3] = [0.4, 0.8, 1.2];
const ODDS: [f64; 3] = [0.05, 0.2, 0.5];
const PRIOR: [f64; 3] = [1.0 / 3.0; 3];
const DEFAULT_RATE: f64 = 0.005;
/// The 90th percentile among the latency test's quantiles.
const P90: usize = 1;

/// Evidence that the canary is no worse.
#[derive(Debug, Clone)]
pub(crate) struct NoWorse {
    errors: Mixture<3>,
    rate: Mixture<3>,
    latency: Mixture<3>,
    comparing: bool,
}

impl NoWorse {
    pub fn new(harmless_rate: f64) -> Self {
        let mut rate = Mixture::new(&PRIOR);
        let limit = if harmless_rate > 0.0 { 5.0 * harmless_rate } else { DEFAULT_RATE };
        rate.set_rate(&ODDS, limit.min(0.5));
        let mixture = || Mixture::new(&PRIOR);
        NoWorse { errors: mixture(), rate, latency: mixture(), comparing: false }
    }

    pub fn set_share(&mut self, share: f64) {
        self.comparing = share > 0.0 && share < 1.0;
        if self.comparing {
            self.errors.set_share(&RISKS, share, TIMES);
            self.latency.set_share(&RISKS, share, TIMES);
        }
    }

    pub fn record_errors(&mut self, ok: u64, failed: [u64; 2]) {
        if self.comparing {
            self.errors.record(failed[0], failed[1]);
            self.rate.record(failed[0], ok);
        }
    }

    pub fn record_latency(&mut self, slow: &[Slow; 2]) {
        if self.comparing {
            self.latency.record(slow[0][P90], slow[1][P90]);
        }
    }

    /// Whether it is shown, for the metrics that are compared.
    pub fn is_shown(&self, errors: bool, latency: bool) -> bool {
        let of_errors = (self.errors.value(1.0) + self.rate.value(1.0)) / 2.0;
        (!errors || of_errors >= LINE) && (!latency || self.latency.value(1.0) >= LINE)
    }
}
