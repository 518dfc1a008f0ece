//! Two tests of distributions that are valid at any time, as yardsticks for the latency test. They
//! keep every value they saw, which a judge can't.
//!
//! Howard and Ramdas 2022, "Sequential estimation of quantiles with applications to A/B testing and
//! best-arm identification" (Bernoulli 28): the time-uniform band around an empirical distribution
//! function (theorem 2) and the A/B test of one quantile. Written from the paper and checked against
//! the authors' `confseq` (see `tests/vectors`).

use super::stats::ln_gamma;

/// Half the width of the band around an empirical distribution function, at any time at once:
/// A·sqrt((ln(1 + ln(t/t_min)) + C)/t) from t_min on.
#[derive(Debug, Clone, Copy)]
pub struct Band {
    t_min: f64,
    c: f64,
}

const A: f64 = 0.85;

impl Band {
    /// The band that the true function leaves with probability at most `alpha`.
    pub fn new(alpha: f64, t_min: f64) -> Self {
        // The error falls with C: bisect for the smallest that keeps alpha.
        let (mut low, mut high) = (1.0, 200.0);
        for _ in 0..100 {
            let middle = (low + high) / 2.0;
            if least_error(middle) > alpha { low = middle } else { high = middle }
        }
        Band { t_min, c: high }
    }

    /// At `t` values.
    pub fn at(&self, t: f64) -> f64 {
        if t < self.t_min {
            return f64::INFINITY;
        }
        A * (((t / self.t_min).ln().ln_1p() + self.c) / t).sqrt()
    }
}

/// The bound of theorem 2 for this C, at the best η.
fn least_error(c: f64) -> f64 {
    let error = |eta: f64| {
        let slack = A - (2.0 * (eta - 1.0) / c).sqrt();
        let gamma = 2.0 / eta * slack * slack;
        if slack <= 0.0 || gamma <= 1.0 {
            return f64::INFINITY;
        }
        4.0 * (-gamma * c).exp() * (1.0 + 1.0 / ((gamma - 1.0) * eta.ln()))
    };
    // Golden section on the interval in which the bound is finite.
    let limit = |eta: f64| (eta / 2.0).sqrt() + (2.0 * (eta - 1.0) / c).sqrt() - A;
    let (mut low, mut high) = (1.0, 2.0 * A * A);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if limit(middle) < 0.0 { low = middle } else { high = middle }
    }
    let (mut from, mut to) = (1.0, low);
    let golden = (5.0f64.sqrt() - 1.0) / 2.0;
    for _ in 0..200 {
        let (left, right) = (to - golden * (to - from), from + golden * (to - from));
        if error(left) <= error(right) { to = right } else { from = left }
    }
    error((from + to) / 2.0)
}

/// The mixture martingale for a probability `p` (beta-binomial, two-sided).
#[derive(Debug, Clone, Copy)]
pub struct BetaBinomial {
    p: f64,
    r: f64,
    normalizer: f64,
}

impl BetaBinomial {
    /// Sharpest near `t_opt` trials at the level `alpha_opt`.
    pub fn new(p: f64, t_opt: f64, alpha_opt: f64) -> Self {
        let q = 1.0 - p;
        let log = (1.0 / alpha_opt).ln();
        let rho = t_opt * p * q / (2.0 * log + (1.0 + 2.0 * log).ln());
        let r = (rho - p * q).max(1e-3 * p * q);
        BetaBinomial { p, r, normalizer: ln_beta(r / p, r / q) }
    }

    /// Its logarithm after `below` successes in `n` trials (`below` need not be whole).
    pub fn log(&self, below: f64, n: f64) -> f64 {
        let (p, q) = (self.p, 1.0 - self.p);
        -below * p.ln() - (n - below) * q.ln() + ln_beta(self.r / p + n - below, self.r / q + below)
            - self.normalizer
    }
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Log of the evidence that the p-quantiles of two arms differ, given both arms' sorted values: the
/// smallest sum of both arms' martingales over all values that the common quantile could have. It
/// is looked for at no more than `most` values of the second arm (0: at all), which can only make
/// the evidence look larger.
pub fn quantile_evidence(mixture: &BetaBinomial, arms: [&[u64]; 2], most: usize) -> f64 {
    let p = mixture.p;
    let at = |arm: &[u64], below: f64| mixture.log(below, arm.len() as f64);
    // Where an arm's martingale is smallest, and the values around.
    let least = |arm: &[u64]| {
        let n = arm.len() as f64;
        let (mut low, mut high) = (0.0, n);
        for _ in 0..60 {
            let (left, right) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
            if at(arm, left) <= at(arm, right) { high = right } else { low = left }
        }
        let below = (low + high) / 2.0;
        let index = |rank: f64| (rank.max(1.0) as usize - 1).min(arm.len() - 1);
        (below, arm[index(below.ceil())], arm[index(below.floor() + 1.0)])
    };
    let found = arms.map(least);
    let value = |which: usize, x: u64| {
        let (arm, (best, from, to)) = (arms[which], found[which]);
        let below = if x < from {
            arm.partition_point(|&value| value <= x) as f64
        } else if x > to {
            arm.partition_point(|&value| value < x) as f64
        } else {
            best
        };
        at(arm, below)
    };
    debug_assert!((0.0..1.0).contains(&p));
    let (first, second) = if found[0].2 <= found[1].2 { (0, 1) } else { (1, 0) };
    let both = |x: u64| value(0, x) + value(1, x);
    let mut smallest = both(found[first].2).min(both(found[second].1));
    let between = |x: u64| arms[second].partition_point(|&value| value <= x);
    let (start, end) = (between(found[first].2).max(1), between(found[second].1));
    let every = (end.saturating_sub(start)).checked_div(most).unwrap_or(1).max(1);
    for rank in (start..=end).step_by(every) {
        smallest = smallest.min(both(arms[second][rank - 1]));
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_band_is_the_papers() {
        // Theorem 2 with A = 0.85 states C = 0.8·ln(1612/α) for all α ≤ 0.25: no larger here.
        for alpha in [0.05, 0.01, 0.001] {
            let band = Band::new(alpha, 1.0);
            let stated =
                0.85 * (((1_000f64).ln().ln_1p() + 0.8 * (1_612.0f64 / alpha).ln()) / 1e3).sqrt();
            assert!(band.at(1e3) <= stated * 1.001, "{} {stated}", band.at(1e3));
            assert!(band.at(1e3) > stated * 0.97, "{} {stated}", band.at(1e3));
        }
    }

    #[test]
    fn equal_arms_give_no_evidence_and_different_ones_do() {
        let mixture = BetaBinomial::new(0.5, 500.0, 0.01);
        let arm = |from: u64| -> Vec<u64> { (from..from + 1_000).collect() };
        assert!(quantile_evidence(&mixture, [&arm(0), &arm(0)], 0) < 0.0);
        let far = quantile_evidence(&mixture, [&arm(0), &arm(400)], 0);
        assert!(far > 4.6, "{far}");
        assert!((quantile_evidence(&mixture, [&arm(400), &arm(0)], 0) - far).abs() < 0.2);
        assert!(quantile_evidence(&mixture, [&arm(0), &arm(400)], 50) >= far);
    }
}
