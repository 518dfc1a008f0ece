//! The arithmetic against published packages: `confseq` (Howard, Waudby-Smith, Ramdas) and `savvi`
//! (Lindon). `tests/vectors/make.py` wrote the numbers.
//!
//! They mix over continuous priors, the crate over a few alternatives. A quadrature of the prior
//! makes one the other: with Gauss–Legendre nodes as alternatives and the prior's density in the
//! weights, the finite mixture equals the integral.

use super::mean::{ALPHA, BoundedMean, normal_bound};
use super::mixture::Mixture;
use super::scalar::{bets, shifts};
use crate::eval::howard_ramdas::{Band, BetaBinomial, quantile_evidence};
use crate::eval::stats::ln_gamma;
use serde_json::Value;

fn vectors(name: &str) -> Vec<Value> {
    let all: Value =
        serde_json::from_str(include_str!("../../tests/vectors/vectors.json")).unwrap();
    let found = all[name].as_array().unwrap().clone();
    assert!(found.len() >= 6, "{name}");
    found
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn assert_close(found: f64, wanted: f64, what: &Value) {
    let error = (found - wanted).abs() / wanted.abs().max(1.0);
    assert!(error < 1e-5, "{found} instead of {wanted}: {what}");
}

/// Nodes and weights of Gauss–Legendre quadrature on (0, 1).
fn quadrature<const N: usize>() -> [(f64, f64); N] {
    std::array::from_fn(|i| {
        let n = N as f64;
        let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..50 {
            let (mut last, mut this) = (1.0, x);
            for k in 2..=N {
                let k = k as f64;
                (last, this) = (this, ((2.0 * k - 1.0) * x * this - (k - 1.0) * last) / k);
            }
            slope = n * (x * this - last) / (x * x - 1.0);
            x -= this / slope;
        }
        ((1.0 - x) / 2.0, 1.0 / ((1.0 - x * x) * slope * slope))
    })
}

#[test]
fn relative_risk_agrees_with_savvi() {
    const N: usize = 64;
    for vector in vectors("multinomial") {
        let (share, k) = (number(&vector["share"]), number(&vector["k"]));
        // The canary's part of the events has a beta prior with these whole parameters, so that
        // all integrands are polynomials and the quadrature is exact.
        let (a, b) = (k * share, k * (1.0 - share));
        let log_beta = ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
        let nodes = quadrature::<N>();
        let prior = nodes.map(|(theta, weight)| {
            weight * ((a - 1.0) * theta.ln() + (b - 1.0) * (1.0 - theta).ln() - log_beta).exp()
        });
        let risks = nodes.map(|(theta, _)| theta * (1.0 - share) / (share * (1.0 - theta)));
        let mut mixture = Mixture::new(&prior);
        mixture.set_share(&risks, share, 1.0);
        let batches = vector["batches"].as_array().unwrap();
        for (batch, wanted) in batches.iter().zip(numbers(&vector["odds"])) {
            let batch = numbers(batch);
            mixture.record(batch[0] as u64, batch[1] as u64);
            assert_close(mixture.value(1.0), wanted, &vector["batches"]);
        }
    }
}

#[test]
fn rates_agree_with_confseq() {
    const N: usize = 512;
    for vector in vectors("beta_binomial").iter().filter(|vector| vector["one_sided"] == true) {
        let [p, n, below] = ["p", "n", "below"].map(|name| number(&vector[name]));
        let (t_opt, alpha_opt) = (number(&vector["t_opt"]), number(&vector["alpha_opt"]));
        // The package's prior: a beta distribution cut off below the null.
        let log = (1.0 / (2.0 * alpha_opt)).ln();
        let rho = t_opt * p * (1.0 - p) / (2.0 * log + (1.0 + 2.0 * log).ln());
        let r = (rho - p * (1.0 - p)).max(1e-3 * p * (1.0 - p));
        let (a, b) = (r / (1.0 - p), r / p);
        // Substituted by 1-q = (1-p)w³, which is smooth at both ends.
        let nodes = quadrature::<N>();
        let misses = nodes.map(|(w, _)| (1.0 - p) * w.powi(3));
        let mut prior = std::array::from_fn(|i| {
            let ((w, weight), miss) = (nodes[i], misses[i]);
            weight * w * w * ((a - 1.0) * (-miss).ln_1p() + (b - 1.0) * miss.ln()).exp()
        });
        let sum: f64 = prior.iter().sum();
        prior.iter_mut().for_each(|weight| *weight /= sum);
        let odds = misses.map(|miss| (1.0 - miss) / miss * (1.0 - p) / p);
        let mut mixture = Mixture::new(&prior);
        mixture.set_rate(&odds, p);
        // In parts, as it comes in.
        let (up, down) = (below as u64, (n - below) as u64);
        mixture.record(up / 3, down / 2);
        mixture.record(up - up / 3, down - down / 2);
        assert_close(mixture.value(1.0).ln(), number(&vector["log"]), vector);
    }
}

#[test]
fn bets_agree_with_confseq() {
    for vector in vectors("bets") {
        let mut mixture = Mixture::new(&[1.0]);
        let stake = number(&vector["stake"]);
        let outcomes = numbers(&vector["outcomes"]);
        for (outcome, wanted) in outcomes.into_iter().zip(numbers(&vector["capital"])) {
            mixture.multiply(&bets(&[stake], 2.0 * outcome - 1.0, 1.0));
            assert_close(mixture.value(1.0), wanted, &vector);
        }
    }
}

#[test]
fn bets_on_means_agree_with_confseq() {
    for vector in vectors("bounded_bets") {
        let (part, m) = (number(&vector["part"]), number(&vector["m"]));
        let mut mixture = Mixture::new(&[1.0]);
        for (value, wanted) in numbers(&vector["values"]).iter().zip(numbers(&vector["capital"])) {
            // What is bet on is the distance from the null, which is never below -m.
            mixture.multiply(&bets(&[part], value - m, m));
            assert_close(mixture.value(1.0), wanted, &vector);
        }
    }
}

#[test]
fn bounded_means_agree_with_confseq() {
    for vector in vectors("bounded_mean") {
        assert_eq!(number(&vector["alpha"]), ALPHA);
        let mut mean = BoundedMean::default();
        for (value, wanted) in numbers(&vector["values"]).into_iter().zip(numbers(&vector["lower"]))
        {
            mean.record(value);
            assert_close(mean.lower(), wanted, &vector);
        }
    }
}

#[test]
fn normal_mixtures_agree_with_confseq() {
    const N: usize = 256;
    for vector in vectors("normal_mixture") {
        let [s, v, v_opt, alpha] = ["s", "v", "v_opt", "alpha"].map(|name| number(&vector[name]));
        assert_close(normal_bound(v, alpha, v_opt), number(&vector["bound"]), &vector);
        // The package's one-sided prior: half a normal distribution of variance 1/rho.
        let log = 2.0 * (1.0 / (2.0 * alpha)).ln();
        let rho = v_opt / (log + log.ln_1p());
        let reach = 12.0 / rho.sqrt();
        let nodes = quadrature::<N>();
        let half = (2.0 * rho / std::f64::consts::PI).sqrt();
        let prior = nodes.map(|(part, weight)| {
            weight * reach * half * (-rho * (part * reach).powi(2) / 2.0).exp()
        });
        let mut mixture = Mixture::new(&prior);
        // One observation of variance v.
        let noises = v.sqrt();
        mixture.multiply(&shifts(&nodes.map(|(part, _)| part * reach * noises), s, noises));
        assert_close(mixture.value(1.0).ln(), number(&vector["log"]), &vector);
    }
}

#[test]
fn the_yardsticks_agree_with_confseq() {
    for vector in vectors("band") {
        let band = Band::new(number(&vector["alpha"]), number(&vector["t_min"]));
        assert_close(band.at(number(&vector["t"])), number(&vector["half_width"]), &vector);
    }
    for vector in vectors("beta_binomial").iter().filter(|vector| vector["one_sided"] == false) {
        let [p, n, below, t_opt, alpha_opt] =
            ["p", "n", "below", "t_opt", "alpha_opt"].map(|name| number(&vector[name]));
        let mixture = BetaBinomial::new(p, t_opt, alpha_opt);
        assert_close(mixture.log(below, n), number(&vector["log"]), vector);
    }
    for vector in vectors("quantile_test") {
        let [p, t_opt, alpha_opt] = ["p", "t_opt", "alpha_opt"].map(|name| number(&vector[name]));
        let arm = |which: usize| -> Vec<u64> {
            numbers(&vector["arms"][which]).into_iter().map(|us| us as u64).collect()
        };
        let evidence =
            quantile_evidence(&BetaBinomial::new(p, t_opt, alpha_opt), [&arm(0), &arm(1)], 0);
        let p_value = (-evidence).exp().min(1.0);
        let wanted = number(&vector["p_value"]);
        assert!((p_value / wanted - 1.0).abs() < 1e-5, "{p_value} instead of {wanted}");
    }
}
