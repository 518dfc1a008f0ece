//! Errors: worse than the baseline *and* above what is harmless.
//!
//! The null hypothesis is a union: the canary is no worse than the baseline, or its rate is at most
//! `harmless_error_rate`. The smaller of an e-value against each part is an e-value against the
//! union, since under either part it is at most that part's own.

use super::mixture::Mixture;
use crate::mutants::{self, Mutant};

/// Relative risks looked for.
pub(crate) const RISKS: [f64; 8] = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0];
/// Their weights at three shares; between them they are interpolated. One canary error is worth at
/// most 1/ρ, so at large shares the alarm takes many errors in a row, and every alternative short
/// of "all errors are the canary's" costs one more: there the weight lies on large risks.
const RISK_PRIORS: [(f64, [f64; 8]); 3] = [
    (0.10, [0.06, 0.08, 0.10, 0.13, 0.17, 0.19, 0.15, 0.12]),
    (0.25, [0.08, 0.16, 0.12, 0.09, 0.08, 0.07, 0.15, 0.25]),
    (0.50, [0.02, 0.03, 0.03, 0.04, 0.04, 0.05, 0.20, 0.59]),
];
/// The same for restarts. Those pay for their number, so that a small risk takes long anyway and
/// its weight is better spent on large ones.
const RESTART_PRIORS: [(f64, [f64; 8]); 3] = [
    (0.10, [0.02, 0.03, 0.07, 0.13, 0.18, 0.24, 0.20, 0.13]),
    (0.25, [0.04, 0.08, 0.10, 0.11, 0.12, 0.12, 0.18, 0.25]),
    RISK_PRIORS[2],
];
/// Odds looked for, as multiples of the harmless rate's odds.
const ODDS: [f64; 6] = [2.0, 4.0, 10.0, 30.0, 100.0, 1000.0];
/// Their weights.
const ODDS_PRIOR: [f64; 6] = [1.0 / 6.0; 6];

/// The test of one count metric.
#[derive(Debug, Clone)]
pub(crate) struct ErrorTest {
    against_baseline: Mixture<8>,
    share: f64,
    against_harmless: Mixture<6>,
    tolerance: f64,
    /// The first share is known, and with it the weights.
    begun: bool,
    comparing: bool,
    has_harmless_rate: bool,
}

impl ErrorTest {
    pub fn new(harmless_rate: f64, tolerance: f64) -> Self {
        let has_harmless_rate = harmless_rate > 0.0 && harmless_rate < 1.0;
        let mut against_harmless = Mixture::new(&ODDS_PRIOR);
        if has_harmless_rate {
            against_harmless.set_rate(&ODDS, harmless_rate);
        }
        ErrorTest {
            against_baseline: Mixture::new(&[0.0; 8]),
            share: 0.0,
            against_harmless,
            tolerance: tolerance.max(0.0),
            begun: false,
            comparing: false,
            has_harmless_rate,
        }
    }

    /// Each event of the canary is a session of its own from now on, and the worst is left out.
    pub fn leave_one_out(&mut self) {
        self.against_baseline.leave_one_out();
        self.against_harmless.leave_one_out();
    }

    /// The share of requests in force from now on. At 0 or 1 there is nothing to compare.
    pub fn set_share(&mut self, share: f64) {
        self.comparing = share > 0.0 && share < 1.0;
        if self.comparing {
            self.share = share;
            if !std::mem::replace(&mut self.begun, true) {
                self.against_baseline.begin(&prior(&RISK_PRIORS, share, self.tolerance));
            }
            self.against_baseline.set_share(&RISKS, share, 1.0 + self.tolerance);
        }
    }

    /// Restarts worth `mass` begin.
    pub fn start(&mut self, mass: f64) {
        if mass <= 0.0 {
            return;
        }
        if self.begun {
            let prior = prior(&RESTART_PRIORS, self.share, self.tolerance);
            self.against_baseline.start(mass, &prior);
        }
        if self.has_harmless_rate {
            self.against_harmless.start(mass, &ODDS_PRIOR);
        }
    }

    /// Whether both sides have a part of the traffic.
    pub fn is_comparing(&self) -> bool {
        self.comparing
    }

    /// Takes a batch of both sides in.
    pub fn record(&mut self, canary_ok: u64, canary_failed: u64, baseline_failed: u64) {
        if !self.comparing {
            return;
        }
        let ignored = mutants::is(Mutant::BaselineErrorsIgnored);
        let baseline_failed = if ignored { 0 } else { baseline_failed };
        if canary_failed > 0 || baseline_failed > 0 {
            self.against_baseline.record(canary_failed, baseline_failed);
        }
        if self.has_harmless_rate && (canary_failed > 0 || canary_ok > 0) {
            self.against_harmless.record(canary_failed, canary_ok);
        }
    }

    /// The e-value.
    pub fn value(&self, from_start: f64) -> f64 {
        if !self.begun {
            return 1.0;
        }
        let against_baseline = self.against_baseline.value(from_start);
        if !self.has_harmless_rate || mutants::is(Mutant::NoHarmlessRate) {
            return against_baseline;
        }
        against_baseline.min(self.against_harmless.value(from_start))
    }
}

/// Weights of the relative risks at this share, over those that the tolerance leaves.
fn prior(priors: &[(f64, [f64; 8]); 3], share: f64, tolerance: f64) -> [f64; 8] {
    let [(low, at_low), (middle, at_middle), (high, at_high)] = *priors;
    let between = |from: [f64; 8], to: [f64; 8], part: f64| {
        std::array::from_fn(|i| from[i] + (to[i] - from[i]) * part.clamp(0.0, 1.0))
    };
    let mut weights: [f64; 8] = if share < middle {
        between(at_low, at_middle, (share - low) / (middle - low))
    } else {
        between(at_middle, at_high, (share - middle) / (high - middle))
    };
    for (weight, risk) in weights.iter_mut().zip(RISKS) {
        if risk <= 1.0 + tolerance {
            *weight = 0.0;
        }
    }
    let sum: f64 = weights.iter().sum();
    if sum > 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_metric_is_small() {
        assert!(size_of::<ErrorTest>() <= 512, "{}", size_of::<ErrorTest>());
    }

    #[test]
    fn the_weights_sum_to_one() {
        for share in [0.001, 0.1, 0.2, 0.25, 0.4, 0.5, 0.9] {
            for tolerance in [0.0, 0.5, 2.0, 500.0] {
                for priors in [RISK_PRIORS, RESTART_PRIORS] {
                    let sum: f64 = prior(&priors, share, tolerance).iter().sum();
                    assert!((sum - 1.0).abs() < 1e-12, "{share} {tolerance}: {sum}");
                }
            }
        }
    }
}
