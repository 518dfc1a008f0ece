//! Two mixtures of likelihood ratios: the arithmetic under every comparison.
//!
//! **Relative risk.** Each event (a failed request, a slow one) either came from the canary or from
//! the baseline. If both sides are equally bad, it came from the canary with probability ρ, the
//! share of requests that the canary gets. If the canary is r times as bad, the probability is
//! θ_r = rρ/(rρ+1−ρ). The product over events of
//!
//! ```text
//! (θ_r/ρ')^c · ((1−θ_r)/(1−ρ'))^(1−c)      c = 1 for an event of the canary
//! ρ' = (1+δ)ρ / ((1+δ)ρ + 1−ρ)             δ = relative increase that is no reason
//! ```
//!
//! is a nonnegative supermartingale with mean at most 1 whenever the canary's true relative risk is
//! at most 1+δ: the factor's mean grows with the probability of c = 1, and is 1 at ρ'. So is every
//! mixture over r with fixed weights (Robbins 1970; Johari, Koomen, Pekelis, Walsh 2022, "Always
//! valid inference"; for the conditional form Lindon and Malek 2022, "Anytime-valid inference for
//! multinomial count data"), and by Ville's inequality (1939) it exceeds 1/α at *any* time with
//! probability at most α. ρ may change between events as long as it is known before them.
//! A batch may be taken in at once: given how many events there were, the arms are exchangeable.
//!
//! **Rate.** The same against a fixed rate h of one side alone: each request contributes q/h if it
//! failed and (1−q)/(1−h) if not, a supermartingale for every true rate up to h.
//!
//! Both work the other way round too: with alternatives below the null they gather evidence that
//! the canary is *better* than it (the factor's mean then falls with the probability of c = 1).
//!
//! **Sign.** A bet of a part λ of the stake on a coin that should not fall in one's favour more often
//! than not multiplies it by 1+λ or 1−λ (Shafer and Vovk 2019; Waudby-Smith and Ramdas 2024).
//!
//! **Restarts.** Besides the product from the start there is the sum over start times of products
//! from then on, weighted by a mass that sums to at most 1 over the whole watch (see
//! [`super::schedule`]). It obeys S ← (S + mass)·factor, and is a supermartingale with mean at most
//! 1 as a weighted average of such. It is the Shiryaev-Roberts form of an e-detector (Shin, Ramdas,
//! Rinaldo 2023, "E-detectors"), with the budget stated over the watch instead of per run length.

use crate::mutants::{self, Mutant};

/// Values stay below this, far above every alarm and far below overflow.
const CEILING: f64 = 1e250;
/// And what falls below this is 0: there is no way back from it, and denormal numbers are slow.
const FLOOR: f64 = 1e-250;

/// Products of likelihood ratios for N alternatives, from the start and restarted.
#[derive(Debug, Clone)]
pub(crate) struct Mixture<const N: usize> {
    fresh: [f64; N],
    restarted: [f64; N],
    /// Factor of an event for the alternative, and of one against it.
    up: [f64; N],
    down: [f64; N],
    /// Mass of start times that are still to come.
    remaining: f64,
}

impl<const N: usize> Mixture<N> {
    /// Begins with these weights, which must sum to at most 1.
    pub fn new(prior: &[f64; N]) -> Self {
        Mixture { fresh: *prior, restarted: [0.0; N], up: [1.0; N], down: [1.0; N], remaining: 1.0 }
    }

    /// Sets the factors for relative risks `risks` against a relative risk of `null`.
    pub fn set_share(&mut self, risks: &[f64; N], share: f64, null: f64) {
        let null = risk_share(null, share);
        for (i, &risk) in risks.iter().enumerate() {
            let alternative = risk_share(risk, share);
            self.up[i] = alternative / null;
            self.down[i] = (1.0 - alternative) / (1.0 - null);
        }
    }

    /// Sets the factors for rates `odds` times the odds of `rate`.
    pub fn set_rate(&mut self, odds: &[f64; N], rate: f64) {
        for (i, &times) in odds.iter().enumerate() {
            let alternative = times * rate / (1.0 - rate + times * rate);
            self.up[i] = alternative / rate;
            self.down[i] = (1.0 - alternative) / (1.0 - rate);
        }
    }

    /// Sets the factors of a bet of these parts of the stake on a sign.
    pub fn set_bets(&mut self, stakes: &[f64; N]) {
        for (i, &stake) in stakes.iter().enumerate() {
            self.up[i] = 1.0 + stake;
            self.down[i] = 1.0 - stake;
        }
    }

    /// Start times worth `mass` of the budget begin here, with these weights (sum at most 1).
    pub fn start(&mut self, mass: f64, prior: &[f64; N]) {
        let mass = match mass.min(self.remaining) {
            _ if mutants::is(Mutant::NoRestarts) => 0.0,
            _ if mutants::is(Mutant::RestartsWithoutBudget) => 1.0,
            mass => mass,
        };
        if mass > 0.0 {
            self.remaining -= mass;
            for (value, weight) in self.restarted.iter_mut().zip(prior) {
                *value += mass * weight;
            }
        }
    }

    /// Takes events in.
    pub fn record(&mut self, up: u64, down: u64) {
        let factors = Factors { up: self.up, down: self.down };
        self.record_by(&factors, up, down);
    }

    /// Takes events of another kind in, with factors of their own.
    pub fn record_by(&mut self, factors: &Factors<N>, up: u64, down: u64) {
        for i in 0..N {
            let factor = power(factors.up[i], up) * power(factors.down[i], down);
            self.fresh[i] = bounded(self.fresh[i] * factor);
            self.restarted[i] = bounded(self.restarted[i] * factor);
        }
    }

    /// The e-value: `from_start` of it from the start, the rest restarted.
    pub fn value(&self, from_start: f64) -> f64 {
        let fresh: f64 = self.fresh.iter().sum();
        let restarted: f64 = self.restarted.iter().sum();
        from_start * fresh + (1.0 - from_start) * (restarted + self.remaining)
    }
}

/// Factors of an event for the alternative and of one against it, for each of N.
#[derive(Debug, Clone)]
pub(crate) struct Factors<const N: usize> {
    up: [f64; N],
    down: [f64; N],
}

impl<const N: usize> Factors<N> {
    /// For relative risks `risks` against equal ones.
    pub fn of_share(risks: [f64; N], share: f64) -> Self {
        let theta = risks.map(|risk| risk_share(risk, share));
        Factors {
            up: theta.map(|theta| theta / share),
            down: theta.map(|theta| (1.0 - theta) / (1.0 - share)),
        }
    }
}

/// The canary's share of events at this relative risk.
fn risk_share(risk: f64, share: f64) -> f64 {
    risk * share / (risk * share + 1.0 - share)
}

/// Single events need no power function.
fn power(base: f64, count: u64) -> f64 {
    match count {
        0 => 1.0,
        1 => base,
        _ => base.powf(count as f64).clamp(0.0, CEILING),
    }
}

fn bounded(value: f64) -> f64 {
    // What is not a number is no evidence.
    if value >= FLOOR { value.min(CEILING) } else { 0.0 }
}
