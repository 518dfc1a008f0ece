//! All metrics under one budget.
//!
//! Their e-values are averaged with weights that sum to 1. An average of supermartingales is one
//! too, so it exceeds 1/α at any time with probability at most α = `false_rollback_probability`,
//! whatever the metrics have to do with each other. (A maximum would not keep the bound.) The
//! weights are fixed before the first reading.

use super::comparison::Comparison;
use crate::mutants::{self, Mutant};
use crate::words;
use std::borrow::Cow;

/// What a comparison found when it crossed the line.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// The metric that weighs most: `errors`, `latency` or the name of another.
    pub metric: Cow<'static, str>,
    /// The combined e-value.
    pub e_value: f64,
    /// The sentence for people.
    pub evidence: String,
    /// Requests of the canary up to here.
    pub canary_requests: u64,
    /// Requests of the baseline up to here.
    pub baseline_requests: u64,
}

/// Where the comparison stands. A failing verdict needs `combined` ≥ `threshold`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EValues {
    /// Of errors alone, if compared.
    pub errors: Option<f64>,
    /// Of latency alone, if compared.
    pub latency: Option<f64>,
    /// The weighted average of all.
    pub combined: f64,
    /// One over the budget.
    pub threshold: f64,
}

/// One test and its part of the budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// `errors`, `errors by route`, `errors against the past`, `latency` or a metric's name.
    pub name: String,
    /// Its weight in the average.
    pub weight: f64,
    /// Its e-value.
    pub e_value: f64,
}

/// Which test.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Which {
    Errors,
    Routes,
    History,
    Latency,
    Scalar(usize),
}

impl Comparison {
    /// Where the comparison stands.
    pub fn e_values(&self) -> EValues {
        let from_start = self.budget.from_start;
        let mut combined = 0.0;
        let mut any = false;
        self.each(|_, weight, value| {
            any = true;
            combined = sum(combined, weight, value);
        });
        EValues {
            errors: self.errors.as_ref().map(|test| test.value(from_start)),
            latency: self.latency.as_ref().map(|test| test.value(from_start)),
            combined: if any { combined } else { 1.0 },
            threshold: self.threshold,
        }
    }

    /// Each test with its part of the budget and its e-value, for those who explain a verdict.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        self.each(|which, weight, e_value| {
            let name = match which {
                Which::Errors => "errors".to_owned(),
                Which::Routes => "errors by route".to_owned(),
                Which::History => "errors against the past".to_owned(),
                Which::Latency => "latency".to_owned(),
                Which::Scalar(index) => self.scalars[index].name.clone(),
            };
            parts.push(Part { name, weight, e_value });
        });
        parts
    }

    /// Visits each test with its weight and e-value; the weights sum to 1.
    fn each(&self, mut visit: impl FnMut(Which, f64, f64)) {
        let from_start = self.budget.from_start;
        let others = self.scalars.len() + usize::from(self.latency.is_some());
        let for_errors = match (&self.errors, others) {
            (None, _) => 0.0,
            (Some(_), 0) => 1.0,
            (Some(_), _) => self.budget.errors,
        };
        let for_each_other = (1.0 - for_errors) / others.max(1) as f64;
        if let Some(errors) = &self.errors {
            let mut left = 1.0;
            if let Some(routes) = &self.routes {
                left -= self.budget.routes;
                let weight = for_errors * self.budget.routes;
                visit(Which::Routes, weight, routes.value(from_start));
            }
            if let Some(history) = &self.history {
                left -= self.budget.history;
                let weight = for_errors * self.budget.history;
                visit(Which::History, weight, history.value(from_start));
            }
            visit(Which::Errors, for_errors * left, errors.value(from_start));
        }
        if let Some(latency) = &self.latency {
            visit(Which::Latency, for_each_other, latency.value(from_start));
        }
        for (index, scalar) in self.scalars.iter().enumerate() {
            visit(Which::Scalar(index), for_each_other, scalar.value(from_start));
        }
    }

    /// The alarm, if the line is crossed.
    pub(super) fn alarm_now(&self) -> Option<Alarm> {
        let mut combined = 0.0;
        let mut strongest = (f64::NEG_INFINITY, Which::Errors);
        self.each(|which, weight, value| {
            combined = sum(combined, weight, value);
            if weight * value > strongest.0 {
                strongest = (weight * value, which);
            }
        });
        if combined < self.threshold {
            return None;
        }
        let [canary_requests, baseline_requests] = self.ledger.requests();
        let (metric, what) = self.words(strongest.1);
        let odds = words::odds(combined);
        let evidence = format!("{what}; odds of a false alarm {odds}{}", self.proviso(strongest.1));
        Some(Alarm { metric, e_value: combined, evidence, canary_requests, baseline_requests })
    }

    /// The metric's name and its figures in words.
    fn words(&self, which: Which) -> (Cow<'static, str>, String) {
        let from_start = self.budget.from_start;
        match which {
            Which::Errors => ("errors".into(), self.ledger.errors()),
            Which::Latency => {
                let strongest = self.latency.as_ref().and_then(|test| test.strongest(from_start));
                ("latency".into(), self.ledger.latency(strongest))
            }
            Which::Routes => {
                let counts = self.routes.as_ref().map(|routes| routes.strongest(from_start));
                let [canary, baseline] = counts.unwrap_or_default();
                let words = format!(
                    "canary errors on one route {}, baseline {}",
                    words::rate(canary.1, canary.0),
                    words::rate_of(baseline.1, baseline.0)
                );
                ("errors".into(), words)
            }
            Which::History => {
                let history = self.history.as_ref();
                let seen = history.map_or((0, 0), |history| history.seen);
                let past = history.and_then(|history| history.reference).unwrap_or_default();
                let words = format!(
                    "errors {}, before {} (no baseline beside it)",
                    words::rate(seen.1, seen.0),
                    words::rate_of(past.1, past.0)
                );
                ("errors".into(), words)
            }
            Which::Scalar(index) => {
                let scalar = &self.scalars[index];
                (scalar.name.clone().into(), scalar.words())
            }
        }
    }

    /// What the odds rest on beside chance: a bound that holds only under a condition says so.
    fn proviso(&self, which: Which) -> &'static str {
        match which {
            Which::Errors | Which::Latency | Which::Routes => "",
            Which::History => ", as far as the past is a measure",
            Which::Scalar(index) => self.scalars[index].proviso(),
        }
    }

    /// How many failed requests of the canary in a row, from here on, would be an alarm; `None` if
    /// more than 1000 or if errors are not compared now.
    pub fn errors_to_alarm(&self) -> Option<u32> {
        let mut trial = self.clone();
        trial.settle();
        if !trial.errors.as_ref().is_some_and(|errors| errors.is_comparing()) {
            return None;
        }
        for more in 0..=1000 {
            if trial.e_values().combined >= trial.threshold {
                return Some(more);
            }
            if let Some(errors) = &mut trial.errors {
                errors.record(0, 1, 0);
            }
        }
        None
    }

    /// Requests that were looked at, of canary and baseline.
    pub fn requests_seen(&self) -> [u64; 2] {
        self.ledger.requests()
    }
}

/// What has been added up so far with one more part.
fn sum(combined: f64, weight: f64, value: f64) -> f64 {
    if mutants::is(Mutant::LargestOfAll) {
        return combined.max(value);
    }
    combined + weight * value
}
