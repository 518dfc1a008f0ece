//! Comparison of canary and baseline by tests that stay valid however often one looks.
//!
//! All metrics share one budget: their e-values are averaged with weights that sum to 1, and the
//! average, itself a supermartingale, is compared with 1/α.

mod errors;
mod mixture;
mod schedule;

use crate::event::Arm;
use crate::settings::Settings;
use crate::traffic::StageRequests;
use crate::words;
use errors::ErrorTest;
use schedule::Schedule;

/// What a comparison found when it crossed the line.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// The metric that weighs most: `errors` or `latency`.
    pub metric: &'static str,
    /// The combined e-value.
    pub e_value: f64,
    /// The sentence for people.
    pub evidence: String,
    /// Requests of the canary up to here.
    pub canary_requests: u64,
    /// Requests of the baseline up to here.
    pub baseline_requests: u64,
}

/// The running comparison of one rollout.
#[derive(Debug, Clone)]
pub struct Comparison {
    errors: Option<ErrorTest>,
    schedule: Schedule,
    from_start: f64,
    threshold: f64,
    warm_up_ms: i64,
    counts: [StageRequests; 2],
    first_canary_ms: Option<i64>,
    mass: f64,
    alarm: Option<Alarm>,
}

impl Comparison {
    /// Begins with no traffic seen and no share in force.
    pub fn new(settings: &Settings) -> Self {
        let errors = settings.compare_errors.then(|| {
            ErrorTest::new(settings.harmless_error_rate, settings.harmless_error_increase)
        });
        Comparison {
            errors,
            schedule: Schedule::new(settings.watch_ms),
            from_start: settings.budget.from_start.clamp(0.0, 1.0),
            threshold: 1.0 / settings.false_rollback_probability.clamp(1e-9, 1.0),
            warm_up_ms: settings.warm_up_ms,
            counts: Default::default(),
            first_canary_ms: None,
            mass: 0.0,
            alarm: None,
        }
    }

    /// The canary's share of requests from now on.
    pub fn weight(&mut self, share: f64) {
        if let Some(errors) = &mut self.errors {
            errors.set_share(share);
        }
    }

    /// Takes a batch in. Call [`settle`](Self::settle) once both sides of a reading are in.
    pub fn requests(&mut self, at_ms: i64, arm: Arm, ok: u64, failed: u64) {
        let total = ok.saturating_add(failed);
        if arm == Arm::Canary && total > 0 && self.first_canary_ms.is_none() {
            self.first_canary_ms = Some(at_ms);
        }
        let Some(began_ms) = self.first_canary_ms else { return };
        let elapsed_ms = at_ms.saturating_sub(began_ms).saturating_sub(self.warm_up_ms);
        if elapsed_ms < 0 {
            return;
        }
        let counts = &mut self.counts[arm.index()];
        counts.total = counts.total.saturating_add(total);
        counts.failed = counts.failed.saturating_add(failed);
        let mass = self.schedule.mass(elapsed_ms);
        let begins = mass - self.mass;
        if let Some(errors) = &mut self.errors {
            if begins > 0.0 {
                errors.start(begins);
            }
            match arm {
                Arm::Canary => errors.canary(ok, failed),
                Arm::Baseline => errors.baseline(failed),
            }
        }
        self.mass = self.mass.max(mass);
    }

    /// The combined e-value: large means that the canary is worse.
    pub fn e_value(&self) -> f64 {
        self.errors.as_ref().map_or(1.0, |errors| errors.value(self.from_start))
    }

    /// Compares with the budget; the first alarm stays.
    pub fn settle(&mut self) -> Option<&Alarm> {
        if self.alarm.is_none() {
            self.alarm = self.pending();
        }
        self.alarm.as_ref()
    }

    /// The alarm as of now, without keeping it.
    pub fn pending(&self) -> Option<Alarm> {
        if let Some(alarm) = &self.alarm {
            return Some(alarm.clone());
        }
        let e_value = self.e_value();
        (e_value >= self.threshold).then(|| Alarm {
            metric: "errors",
            e_value,
            evidence: self.evidence(e_value),
            canary_requests: self.counts[0].total,
            baseline_requests: self.counts[1].total,
        })
    }

    fn evidence(&self, e_value: f64) -> String {
        let [canary, baseline] = self.counts;
        format!(
            "canary errors {} of {} requests, baseline {} of {}; odds of a false alarm {}",
            words::percent(crate::windows::percent(canary.failed, canary.total)),
            canary.total,
            words::percent(crate::windows::percent(baseline.failed, baseline.total)),
            baseline.total,
            words::odds(e_value),
        )
    }
}
