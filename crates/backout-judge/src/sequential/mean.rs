//! Lower confidence sequences of a mean: bounds that hold at every moment together with the stated probability.
//!
//! **Bounded** observations z in [0, 1], whatever their shape: the predictable-mixture empirical-Bernstein sequence
//! of Waudby-Smith and Ramdas 2024 ("Estimating means of bounded random variables by betting", theorem 2):
//!
//! ```text
//! L_t = Σλ_i z_i / Σλ_i − (ln(1/α) + Σ v_i ψ(λ_i)) / Σλ_i      ψ(λ) = −ln(1−λ) − λ,  v_i = (z_i − mean_{i−1})²
//! λ_t = min(½, √(2 ln(1/α) / (s²_{t−1} t ln(t+1))))            s²: variance so far, with one made-up value of ¼
//! ```
//!
//! **Sub-Gaussian** observations of a known scale: the two-sided normal mixture of Robbins 1970 (Howard, Ramdas,
//! McAuliffe, Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", proposition 5):
//! |S_t − Σ means| ≤ √((V+ρ) ln((V+ρ)/(ρα²))) at all times, V = t·s².
//!
//! Both hold if the mean of each observation *given those before* is the one estimated; a mean that moves is bounded
//! in its (weighted) average.

/// One minus the probability with which both hold.
pub(crate) const ALPHA: f64 = 0.05;

/// The lower bound of a mean in [0, 1].
#[derive(Debug, Clone, Default)]
pub(crate) struct BoundedMean {
    count: f64,
    sum: f64,
    /// Sum of squared distances to the (regularised) mean at each time.
    squares: f64,
    bets: f64,
    weighted: f64,
    penalty: f64,
}

impl BoundedMean {
    /// Takes one observation in.
    pub fn record(&mut self, z: f64) {
        let t = self.count + 1.0;
        let variance = (0.25 + self.squares) / t;
        let bet = (2.0 * (1.0 / ALPHA).ln() / (variance * t * t.ln_1p())).sqrt().min(0.5);
        let before = if self.count > 0.0 { self.sum / self.count } else { 0.0 };
        self.count = t;
        self.sum += z;
        let regular = ((0.5 + self.sum) / (t + 1.0)).min(1.0);
        self.squares += (z - regular).powi(2);
        self.bets += bet;
        self.weighted += bet * z;
        self.penalty += (z - before).powi(2) * (-(-bet).ln_1p() - bet);
    }

    /// The mean is at least this.
    pub fn lower(&self) -> f64 {
        if self.bets <= 0.0 {
            return 0.0;
        }
        ((self.weighted - (1.0 / ALPHA).ln() - self.penalty) / self.bets).max(0.0)
    }
}

/// The lower bound of a mean of sub-Gaussian observations.
#[derive(Debug, Clone)]
pub(crate) struct GaussianMean {
    count: f64,
    sum: f64,
    variance: f64,
}

/// The bound is tightest near so many observations.
const TIGHT_AT: f64 = 30.0;

impl GaussianMean {
    /// Observations of this variance proxy.
    pub fn new(variance: f64) -> Self {
        GaussianMean { count: 0.0, sum: 0.0, variance }
    }

    /// Takes one observation in.
    pub fn record(&mut self, x: f64) {
        self.count += 1.0;
        self.sum += x;
    }

    /// The mean is at least this.
    pub fn lower(&self) -> f64 {
        if self.count == 0.0 {
            return f64::NEG_INFINITY;
        }
        (self.sum - normal_bound(self.count * self.variance, ALPHA, TIGHT_AT * self.variance))
            / self.count
    }
}

/// The two-sided normal mixture bound at intrinsic time `v`, tightest near `v_opt`.
pub(crate) fn normal_bound(v: f64, alpha: f64, v_opt: f64) -> f64 {
    let log = 2.0 * (1.0 / alpha).ln();
    let rho = v_opt / (log + log.ln_1p());
    ((v + rho) * ((v + rho) / (rho * alpha * alpha)).ln()).sqrt()
}
