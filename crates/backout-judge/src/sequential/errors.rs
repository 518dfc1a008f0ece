//! Errors: worse than the baseline *and* above what is harmless.
//!
//! The null hypothesis is a union: the canary is no worse than the baseline, or its rate is at most
//! `harmless_error_rate`. The smaller of an e-value against each part is an e-value against the
//! union, since under either part it is at most that part's own.

use super::mixture::Mixture;

/// Relative risks looked for.
pub(crate) const RISKS: [f64; 8] = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0];
/// Their weights.
const RISK_PRIOR: [f64; 8] = [0.125; 8];
/// Odds looked for, as multiples of the harmless rate's odds.
const ODDS: [f64; 6] = [2.0, 4.0, 10.0, 30.0, 100.0, 1000.0];
/// Their weights.
const ODDS_PRIOR: [f64; 6] = [1.0 / 6.0; 6];

/// The test of one count metric.
#[derive(Debug, Clone)]
pub(crate) struct ErrorTest {
    against_baseline: Mixture<8>,
    against_harmless: Option<Mixture<6>>,
    tolerance: f64,
    comparing: bool,
}

impl ErrorTest {
    pub fn new(harmless_rate: f64, tolerance: f64) -> Self {
        let against_harmless = (harmless_rate > 0.0 && harmless_rate < 1.0).then(|| {
            let mut mixture = Mixture::new();
            mixture.set_rate(&ODDS, harmless_rate);
            mixture
        });
        ErrorTest {
            against_baseline: Mixture::new(),
            against_harmless,
            tolerance: tolerance.max(0.0),
            comparing: false,
        }
    }

    /// The share of requests in force from now on. At 0 or 1 there is nothing to compare.
    pub fn set_share(&mut self, share: f64) {
        self.comparing = share > 0.0 && share < 1.0;
        if self.comparing {
            self.against_baseline.set_share(&RISKS, share, self.tolerance);
        }
    }

    /// Restarts worth `mass` begin.
    pub fn start(&mut self, mass: f64) {
        self.against_baseline.start(mass);
        if let Some(mixture) = &mut self.against_harmless {
            mixture.start(mass);
        }
    }

    /// Requests of the canary.
    pub fn canary(&mut self, ok: u64, failed: u64) {
        if !self.comparing {
            return;
        }
        if failed > 0 {
            self.against_baseline.record(failed, 0);
        }
        if let Some(mixture) = &mut self.against_harmless {
            mixture.record(failed, ok);
        }
    }

    /// Failed requests of the baseline.
    pub fn baseline(&mut self, failed: u64) {
        if self.comparing && failed > 0 {
            self.against_baseline.record(0, failed);
        }
    }

    /// The e-value.
    pub fn value(&self, from_start: f64) -> f64 {
        let against_baseline = self.against_baseline.value(&RISK_PRIOR, from_start);
        match &self.against_harmless {
            Some(mixture) => against_baseline.min(mixture.value(&ODDS_PRIOR, from_start)),
            None => against_baseline,
        }
    }
}
