//! Made-up traffic with a fixed seed.

use backout_judge::Arm;
use backout_judge::sequential::{Alarm, Comparison};

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// One request as the world would answer it.
pub struct Answer {
    pub failed: bool,
    pub latency_ms: f64,
}

/// Runs `requests` requests, one every `step_ms`, and stops at the first alarm.
pub fn run(
    comparison: &mut Comparison,
    rng: &mut Rng,
    share: impl Fn(i64) -> f64,
    requests: u64,
    step_ms: i64,
    mut world: impl FnMut(&mut Rng, Arm, i64) -> Answer,
) -> Option<Alarm> {
    let mut in_force = -1.0;
    for number in 1..=requests {
        let at_ms = number as i64 * step_ms;
        let now = share(at_ms);
        if now != in_force {
            comparison.weight(now);
            in_force = now;
        }
        let arm = if rng.uniform() < now { Arm::Canary } else { Arm::Baseline };
        let answer = world(rng, arm, at_ms);
        let us = (answer.latency_ms * 1_000.0) as u64;
        let latency = if answer.failed { &[][..] } else { &[(us, 1)][..] };
        let (ok, failed) = (u64::from(!answer.failed), u64::from(answer.failed));
        comparison.requests(at_ms, arm, ok, failed, latency);
        if let Some(alarm) = comparison.settle() {
            return Some(alarm.clone());
        }
    }
    None
}

/// The probability of `at_least` or more successes in `n` tries of probability `p`.
pub fn binomial_tail(n: u64, p: f64, at_least: u64) -> f64 {
    let mut log_term = n as f64 * (1.0 - p).ln();
    let mut below = 0.0;
    for k in 0..at_least {
        below += log_term.exp();
        log_term += ((n - k) as f64 / (k + 1) as f64).ln() + (p / (1.0 - p)).ln();
    }
    (1.0f64 - below).max(0.0)
}

/// Whether `seen` alarms in `runs` show, with 95 % confidence (exact, Clopper and Pearson 1934),
/// that the true probability is at most `alpha`.
pub fn shows_at_most(alpha: f64, seen: u64, runs: u64) -> bool {
    1.0 - binomial_tail(runs, alpha, seen + 1) <= 0.05
}

#[test]
fn the_binomial_tail_is_right() {
    // 1 - 0.95^10 and a fair coin.
    assert!((binomial_tail(10, 0.05, 1) - 0.401_263_060_761_621).abs() < 1e-12);
    assert!((binomial_tail(5, 0.5, 3) - 0.5).abs() < 1e-12);
    // 0 of 59 is the classic "95 % sure of at most 5 %".
    assert!(shows_at_most(0.05, 0, 59) && !shows_at_most(0.05, 0, 58));
}
