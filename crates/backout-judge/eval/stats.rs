//! What figures are divided by, and how sure one may be of them.

/// Kullback–Leibler divergence of Bernoulli(p) from Bernoulli(q), in nats.
pub fn kl(p: f64, q: f64) -> f64 {
    let part = |a: f64, b: f64| if a > 0.0 { a * (a / b).ln() } else { 0.0 };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

/// Canary requests that any test of level `alpha` needs on average, even one that knew both rates
/// (Wald 1945; with probability one and power one: Farrell 1964).
pub fn floor(alpha: f64, bad: f64, usual: f64) -> f64 {
    (1.0 / alpha).ln() / kl(bad, usual)
}

/// The same for a test that knows neither rate and judges errors by the side they come from, as it
/// must where a fault of both sides is no reason. It learns from λ·KL(θ, ρ) nats a request: λ errors,
/// of which the canary has the part θ instead of its share ρ.
pub fn floor_by_sides(alpha: f64, bad: f64, usual: f64, share: f64) -> f64 {
    let errors = share * bad + (1.0 - share) * usual;
    (1.0 / alpha).ln() * share / (errors * kl(share * bad / errors, share))
}

/// Canary errors below which no test on the errors' sides can fail: each is worth at most 1/ρ.
pub fn whole_errors(alpha: f64, share: f64) -> u64 {
    ((1.0 / alpha).ln() / (1.0 / share).ln() + 1e-9).floor() as u64
}

/// The probability of at most `seen` successes in `n` tries of probability `p`.
pub fn binomial_at_most(seen: u64, n: u64, p: f64) -> f64 {
    if seen >= n || p <= 0.0 {
        return 1.0;
    }
    let odds = (p / (1.0 - p)).ln();
    let mut log_term = n as f64 * (1.0 - p).ln();
    let mut sum = log_term.exp();
    for k in 0..seen {
        log_term += ((n - k) as f64 / (k + 1) as f64).ln() + odds;
        sum += log_term.exp();
    }
    sum.min(1.0)
}

/// Upper end of the one-sided 95 % interval of Clopper and Pearson (1934): exact.
pub fn upper_bound(seen: u64, runs: u64) -> f64 {
    if seen >= runs {
        return 1.0;
    }
    let (mut low, mut high) = (seen as f64 / runs as f64, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if binomial_at_most(seen, runs, middle) > 0.05 {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Whether `seen` of `runs` contradicts a probability of at most `alpha` at the level 0.001: what a
/// small number of runs can show.
#[cfg(test)]
pub fn contradicts(seen: u64, runs: u64, alpha: f64) -> bool {
    seen > 0 && 1.0 - binomial_at_most(seen - 1, runs, alpha) < 0.001
}

/// A quantile of values that may be missing; a missing one is larger than all others.
pub fn quantile(values: &[Option<f64>], q: f64) -> Option<f64> {
    let mut all: Vec<f64> = values.iter().map(|value| value.unwrap_or(f64::INFINITY)).collect();
    all.sort_by(f64::total_cmp);
    let rank = ((all.len() as f64 * q).ceil() as usize).clamp(1, all.len().max(1));
    all.get(rank - 1).copied().filter(|value| value.is_finite())
}

/// The median, missing ones being larger than all others.
pub fn median(values: &[Option<f64>]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Logarithm of the gamma function (Lanczos 1964, g = 7), for positive numbers.
pub fn ln_gamma(x: f64) -> f64 {
    const C: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        let sine = (std::f64::consts::PI * x).sin();
        return (std::f64::consts::PI / sine).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let t = x + 7.5;
    let sum: f64 = (1..9).fold(C[0], |sum, i| sum + C[i] / (x + i as f64));
    0.5 * (std::f64::consts::TAU).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_textbooks() {
        // KL(0.051, 0.001) = 0.051 ln 51 + 0.949 ln(0.949/0.999).
        assert!((kl(0.051, 0.001) - 0.151_796).abs() < 1e-5, "{}", kl(0.051, 0.001));
        assert!((floor(0.01, 0.051, 0.001) - 30.34).abs() < 0.01);
        // With hardly any canary the baseline is known as well as if it was given.
        assert!((floor_by_sides(0.01, 0.051, 0.001, 1e-5) - 30.6).abs() < 0.1);
        // Errors of 6 and 1 % at half and half: 0.035 a request, 6/7 of them the canary's.
        assert!((floor_by_sides(0.01, 0.06, 0.01, 0.5) - 232.5).abs() < 0.5);
        assert_eq!(kl(0.3, 0.3), 0.0);
        assert_eq!(whole_errors(0.01, 0.1), 2);
        assert_eq!(whole_errors(0.01, 0.5), 6);
        assert_eq!(whole_errors(0.05, 0.25), 2);
    }

    #[test]
    fn the_interval_is_clopper_and_pearsons() {
        // None of n leaves 1 - 0.05^(1/n); tables give 0.0466 for 1 of 100 (one-sided 95 %).
        assert!((upper_bound(0, 10_000) - (1.0 - 0.05f64.powf(1e-4))).abs() < 1e-9);
        assert!((upper_bound(1, 100) - 0.046_56).abs() < 1e-4, "{}", upper_bound(1, 100));
        assert_eq!(upper_bound(3, 3), 1.0);
        assert!(contradicts(11, 300, 0.01) && !contradicts(8, 300, 0.01));
    }

    #[test]
    fn the_gamma_function_is_right() {
        assert!(ln_gamma(1.0).abs() < 1e-13);
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-13);
        assert!((ln_gamma(10.0) - 362_880f64.ln()).abs() < 1e-11);
        assert!((ln_gamma(1e5) - 1_051_287.708_973_656_8).abs() < 1e-6);
    }

    #[test]
    fn missing_values_are_large() {
        assert_eq!(median(&[Some(3.0), None, Some(1.0)]), Some(3.0));
        assert_eq!(median(&[Some(3.0), None, None]), None);
    }
}
