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
//! **Bets.** A bet of a part λ of the stake on a coin that should not fall in one's favour more often
//! than not multiplies it by 1+λ or 1−λ; one on a mean that should not be above 0 by 1+λD (Shafer and
//! Vovk 2019; Waudby-Smith and Ramdas 2024). [`super::scalar`] has those.
//!
//! **Restarts.** Besides the product from the start there is the sum over start times of products
//! from then on, weighted by a mass that sums to at most 1 over the whole watch (see
//! [`super::schedule`]). It obeys S ← (S + mass)·factor, and is a supermartingale with mean at most
//! 1 as a weighted average of such. It is the Shiryaev-Roberts form of an e-detector (Shin, Ramdas,
//! Rinaldo 2023, "E-detectors"), with the budget stated over the watch instead of per run length.
//!
//! **Without the worst session.** Where sessions are counted, what counts is the smallest of all values
//! that leave one of the canary's sessions out (see [`super::sessions`] for why). Per alternative the
//! smallest is exact and costs one number beside each: with x the value of all and m the smallest,
//! an event of a session with factor f makes x' = x·f and m' = min(m·f, x), since what leaves *it* out
//! stays at x, and what leaves an earlier one out is multiplied. The same holds for the sums over
//! start times, as x ↦ (x + mass)·f keeps order. The sum of the smallest of each alternative is at
//! most the smallest of the sums.

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
    /// The same values without the canary's event that makes each the smallest; where sessions count.
    without_one: Option<Box<WithoutOne<N>>>,
}

/// The smallest values that leave one of the canary's events out.
#[derive(Debug, Clone)]
struct WithoutOne<const N: usize> {
    fresh: [f64; N],
    restarted: [f64; N],
}

impl<const N: usize> Mixture<N> {
    /// Begins with these weights, which must sum to at most 1.
    pub fn new(prior: &[f64; N]) -> Self {
        Mixture {
            fresh: *prior,
            restarted: [0.0; N],
            up: [1.0; N],
            down: [1.0; N],
            remaining: 1.0,
            without_one: None,
        }
    }

    /// Begins anew with these weights: they were not known before. Nothing may have come in yet.
    pub fn begin(&mut self, prior: &[f64; N]) {
        self.fresh = *prior;
        if let Some(without) = &mut self.without_one {
            without.fresh = *prior;
        }
    }

    /// From now on each event of the canary is a session of its own, and the worst is left out.
    pub fn leave_one_out(&mut self) {
        if !mutants::is(Mutant::NoSessionLeftOut) {
            let (fresh, restarted) = (self.fresh, self.restarted);
            self.without_one.get_or_insert_with(|| Box::new(WithoutOne { fresh, restarted }));
        }
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

    /// Start times worth `mass` of the budget begin here, with these weights (sum at most 1).
    pub fn start(&mut self, mass: f64, prior: &[f64; N]) {
        let mass = match mass.min(self.remaining) {
            _ if mutants::is(Mutant::NoRestarts) => 0.0,
            _ if mutants::is(Mutant::RestartsWithoutBudget) => 1.0,
            mass => mass,
        };
        if mass > 0.0 {
            self.remaining -= mass;
            let begin = |restarted: &mut [f64; N]| {
                for (value, weight) in restarted.iter_mut().zip(prior) {
                    *value += mass * weight;
                }
            };
            begin(&mut self.restarted);
            if let Some(without) = &mut self.without_one {
                begin(&mut without.restarted);
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
            if let Some(without) = &mut self.without_one {
                // One of these is left out, or one that came before.
                let others = match up {
                    0 => f64::INFINITY,
                    _ => power(factors.up[i], up - 1) * power(factors.down[i], down),
                };
                let smaller = |before: f64, all: f64| bounded((before * factor).min(all * others));
                without.fresh[i] = smaller(without.fresh[i], self.fresh[i]);
                without.restarted[i] = smaller(without.restarted[i], self.restarted[i]);
            }
            self.fresh[i] = bounded(self.fresh[i] * factor);
            self.restarted[i] = bounded(self.restarted[i] * factor);
        }
    }

    /// Takes one observation in that multiplies each alternative by a factor of its own.
    pub fn multiply(&mut self, factors: &[f64; N]) {
        for (i, factor) in factors.iter().enumerate() {
            self.fresh[i] = bounded(self.fresh[i] * factor);
            self.restarted[i] = bounded(self.restarted[i] * factor);
        }
    }

    /// The e-value: `from_start` of it from the start, the rest restarted.
    pub fn value(&self, from_start: f64) -> f64 {
        let (fresh, restarted) = match &self.without_one {
            Some(without) => (&without.fresh, &without.restarted),
            None => (&self.fresh, &self.restarted),
        };
        let fresh: f64 = fresh.iter().sum();
        let restarted: f64 = restarted.iter().sum();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that happens to a mixture, so that it can be played again with an event of the canary left out.
    #[derive(Clone, Copy)]
    enum Step {
        Share(f64),
        Mass(f64),
        Events(u64, u64),
    }

    const RISKS: [f64; 3] = [1.5, 5.0, 100.0];
    const PRIOR: [f64; 3] = [0.5, 0.3, 0.2];

    fn play(steps: &[Step], leave_one_out: bool) -> Mixture<3> {
        let mut mixture = Mixture::new(&PRIOR);
        if leave_one_out {
            mixture.leave_one_out();
        }
        for step in steps {
            match *step {
                Step::Share(share) => mixture.set_share(&RISKS, share, 1.0),
                Step::Mass(mass) => mixture.start(mass, &PRIOR),
                Step::Events(up, down) => mixture.record(up, down),
            }
        }
        mixture
    }

    /// By its definition: each event of the canary left out in turn, the smallest for each alternative.
    fn smallest(steps: &[Step]) -> ([f64; 3], [f64; 3]) {
        let all = play(steps, false);
        let (mut fresh, mut restarted) = (all.fresh, all.restarted);
        for (at, step) in steps.iter().enumerate() {
            let Step::Events(up @ 1.., down) = *step else { continue };
            let mut without = steps.to_vec();
            without[at] = Step::Events(up - 1, down);
            let without = play(&without, false);
            for i in 0..3 {
                fresh[i] = fresh[i].min(without.fresh[i]);
                restarted[i] = restarted[i].min(without.restarted[i]);
            }
        }
        (fresh, restarted)
    }

    #[test]
    fn the_recursion_leaves_out_the_event_that_makes_each_value_smallest() {
        let mut state = 5u64;
        let mut draw = |n: u64| {
            state = super::super::sessions::scramble(state);
            state % n
        };
        for _ in 0..200 {
            let mut steps = vec![Step::Share(0.1)];
            for _ in 0..draw(30) {
                steps.push(match draw(6) {
                    0 => Step::Share([0.01, 0.05, 0.25, 0.5][draw(4) as usize]),
                    1 => Step::Mass(draw(100) as f64 / 2_000.0),
                    _ => Step::Events(draw(3), draw(3)),
                });
            }
            let without = play(&steps, true).without_one.expect("it was asked for");
            let (fresh, restarted) = smallest(&steps);
            for i in 0..3 {
                let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.max(1e-12);
                assert!(close(without.fresh[i], fresh[i]), "{} {}", without.fresh[i], fresh[i]);
                assert!(close(without.restarted[i], restarted[i]));
            }
        }
    }

    #[test]
    fn one_session_is_no_evidence_whatever_the_share() {
        let steps = [Step::Share(0.01), Step::Mass(0.2), Step::Events(1, 0), Step::Mass(0.2)];
        assert!(play(&steps, false).value(0.5) > 5.0);
        let alone = play(&steps, true).value(0.5);
        assert!((alone - 1.0).abs() < 1e-12, "{alone}");
    }
}
