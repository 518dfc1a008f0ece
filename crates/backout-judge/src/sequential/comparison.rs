//! All metrics under one budget.
//!
//! Their e-values are averaged with weights that sum to 1. An average of supermartingales is one
//! too, so it exceeds 1/α at any time with probability at most α = `false_rollback_probability`,
//! whatever the metrics have to do with each other. (A maximum would not keep the bound.)

use super::errors::ErrorTest;
use super::evidence::Ledger;
use super::latency::{LatencyTest, Slow};
use super::schedule::Schedule;
use super::sessions::Sessions;
use super::share::ShareGuard;
use crate::event::Arm;
use crate::settings::{Budget, Settings};

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

/// Where the comparison stands. A failing verdict needs `combined` ≥ `threshold`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EValues {
    /// Of errors alone, if compared.
    pub errors: Option<f64>,
    /// Of latency alone, if compared.
    pub latency: Option<f64>,
    /// The weighted average.
    pub combined: f64,
    /// One over the budget, and a little more.
    pub threshold: f64,
}

/// The kind of event that a session's first failed request is; the others are quantiles.
const FAILED: u64 = u64::MAX;

/// The line lies this much above 1/α. The bound holds without it, but nothing is wasted elsewhere:
/// true rates of 0.92 α were measured, and a bound that nobody can show by simulation convinces
/// nobody. It costs 0.08 nats of about 7.
const MARGIN: f64 = 1.08;

/// A reading of both sides that is not judged yet.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    at_ms: i64,
    total: [u64; 2],
    ok: [u64; 2],
    failed: [u64; 2],
    slow: [Slow; 2],
}

/// The running comparison of one rollout.
#[derive(Debug, Clone)]
pub struct Comparison {
    errors: Option<ErrorTest>,
    latency: Option<LatencyTest>,
    schedule: Schedule,
    budget: Budget,
    threshold: f64,
    warm_up_ms: i64,
    latency_warm_up_ms: i64,
    share: f64,
    share_used: f64,
    guard: ShareGuard,
    first_reading_ms: Option<i64>,
    first_canary_ms: Option<i64>,
    errors_mass: f64,
    latency_mass: f64,
    reading: Option<Reading>,
    sessions: Option<Box<Sessions>>,
    ledger: Ledger,
    alarm: Option<Alarm>,
}

impl Comparison {
    /// Begins with no traffic seen and no share in force.
    pub fn new(settings: &Settings) -> Self {
        let errors = settings.compare_errors.then(|| {
            ErrorTest::new(settings.harmless_error_rate, settings.harmless_error_increase)
        });
        let latency = settings.compare_latency.then(|| {
            LatencyTest::new(settings.harmless_latency_increase, settings.harmless_latency_floor_us)
        });
        Comparison {
            errors,
            latency,
            schedule: Schedule::new(settings.watch_ms),
            budget: Budget {
                errors: settings.budget.errors.clamp(0.0, 1.0),
                from_start: settings.budget.from_start.clamp(0.0, 1.0),
            },
            threshold: MARGIN / settings.false_rollback_probability.clamp(1e-9, 1.0),
            warm_up_ms: settings.warm_up_ms.max(0),
            latency_warm_up_ms: settings.latency_warm_up_ms.max(settings.warm_up_ms).max(0),
            share: 0.0,
            share_used: 0.0,
            guard: ShareGuard::default(),
            first_reading_ms: None,
            first_canary_ms: None,
            errors_mass: 0.0,
            latency_mass: 0.0,
            reading: None,
            sessions: None,
            ledger: Ledger::default(),
            alarm: None,
        }
    }

    /// The canary's share of requests (or of sessions, where those are counted) from now on.
    pub fn weight(&mut self, share: f64) {
        self.settle();
        self.share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        self.guard = ShareGuard::default();
        self.use_share(self.share);
    }

    fn use_share(&mut self, share: f64) {
        self.share_used = share;
        if let Some(errors) = &mut self.errors {
            errors.set_share(share);
        }
        if let Some(latency) = &mut self.latency {
            latency.set_share(share);
        }
    }

    /// Takes a batch of one side in: (microseconds, count) are the latencies of those that did not
    /// fail. Batches of the same time are judged together, by [`settle`](Self::settle).
    pub fn requests(&mut self, at_ms: i64, arm: Arm, ok: u64, failed: u64, latency: &[(u64, u64)]) {
        if self.reading.is_some_and(|reading| reading.at_ms != at_ms) {
            self.settle();
        }
        let side = arm.index();
        let mut reading = self.reading.take().unwrap_or(Reading { at_ms, ..Reading::default() });
        reading.total[side] = reading.total[side].saturating_add(ok.saturating_add(failed));
        reading.ok[side] = reading.ok[side].saturating_add(ok);
        reading.failed[side] = reading.failed[side].saturating_add(failed);
        if let Some(test) = &mut self.latency {
            for &(us, count) in latency {
                test.count_slow(arm, us, count, &mut reading.slow[side]);
                if arm == Arm::Baseline {
                    test.learn(us, count);
                }
            }
        }
        self.reading = Some(reading);
    }

    /// Takes one request in that belongs to a session which stays on its side. The share in force
    /// is that of sessions, and each counts once (see [`super::sessions`]). `latency_us` of failed
    /// requests is left out.
    pub fn session_request(
        &mut self,
        at_ms: i64,
        arm: Arm,
        session: u64,
        ok: bool,
        latency_us: Option<u64>,
    ) {
        let side = arm.index();
        let mut reading = self.reading_at(at_ms);
        let sessions = self.sessions.get_or_insert_with(|| Box::new(Sessions::new()));
        reading.total[side] += 1;
        if ok && !sessions.had(session, FAILED) {
            reading.ok[side] += 1;
        } else if !ok && sessions.is_first(session, FAILED) {
            reading.failed[side] += 1;
        }
        if let (Some(test), Some(us), true) = (&mut self.latency, latency_us, ok) {
            let mut slow = Slow::default();
            test.count_slow(arm, us, 1, &mut slow);
            for (kind, count) in slow.into_iter().enumerate() {
                if count > 0 && sessions.is_first(session, kind as u64) {
                    reading.slow[side][kind] += 1;
                }
            }
            if arm == Arm::Baseline {
                test.learn(us, 1);
            }
        }
        self.reading = Some(reading);
    }

    /// The reading of this moment; one of another moment is judged first.
    fn reading_at(&mut self, at_ms: i64) -> Reading {
        if self.reading.is_some_and(|reading| reading.at_ms != at_ms) {
            self.settle();
        }
        self.reading.take().unwrap_or(Reading { at_ms, ..Reading::default() })
    }

    /// Judges what came in since the last call; the first alarm stays.
    pub fn settle(&mut self) -> Option<&Alarm> {
        if let Some(reading) = self.reading.take() {
            self.judge(&reading);
            if self.alarm.is_none() {
                self.alarm = self.alarm_now();
            }
        }
        self.alarm.as_ref()
    }

    /// The alarm as it would be if everything was judged now.
    pub fn pending(&self) -> Option<Alarm> {
        if self.alarm.is_some() || self.reading.is_none() {
            return self.alarm.clone();
        }
        self.clone().settle().cloned()
    }

    fn judge(&mut self, reading: &Reading) {
        let [canary, baseline] = reading.total;
        let comparing = self.share > 0.0 && self.share < 1.0;
        if comparing && self.first_reading_ms.is_none() {
            self.first_reading_ms = Some(reading.at_ms);
        }
        if canary > 0 && self.first_canary_ms.is_none() {
            self.first_canary_ms = Some(reading.at_ms);
        }
        self.ledger.seen(reading.total);
        let by_request = self.sessions.is_none();
        if by_request && comparing {
            let share = self.guard.observe(self.share, canary, baseline);
            if share != self.share_used {
                self.use_share(share);
            }
        }
        if let Some(elapsed_ms) = self.elapsed(reading.at_ms, self.warm_up_ms) {
            self.ledger.add(reading.at_ms, reading.total, reading.failed, reading.slow);
            self.judge_errors(elapsed_ms, reading);
        }
        if let Some(elapsed_ms) = self.elapsed(reading.at_ms, self.latency_warm_up_ms) {
            self.judge_latency(elapsed_ms, reading);
        }
        if let Some(latency) = &mut self.latency {
            latency.refresh();
        }
    }

    /// Time since the comparison began, `None` before. A warm-up counts from the canary's first
    /// request. Without one it must begin with the split, not with that request: to begin there
    /// would be to begin with an event known to be the canary's.
    fn elapsed(&self, at_ms: i64, warm_up_ms: i64) -> Option<i64> {
        let began_ms = if warm_up_ms == 0 { self.first_reading_ms } else { self.first_canary_ms };
        let elapsed_ms = at_ms.saturating_sub(began_ms?).saturating_sub(warm_up_ms);
        (elapsed_ms >= 0).then_some(elapsed_ms)
    }

    fn judge_errors(&mut self, elapsed_ms: i64, reading: &Reading) {
        let Some(errors) = &mut self.errors else { return };
        let mass = self.schedule.mass(elapsed_ms);
        if mass > self.errors_mass {
            errors.start(mass - self.errors_mass);
            self.errors_mass = mass;
        }
        errors.record(reading.ok[0], reading.failed[0], reading.failed[1]);
    }

    fn judge_latency(&mut self, elapsed_ms: i64, reading: &Reading) {
        let Some(latency) = &mut self.latency else { return };
        let mass = self.schedule.mass(elapsed_ms);
        if mass > self.latency_mass {
            latency.start(mass - self.latency_mass);
            self.latency_mass = mass;
        }
        latency.record(&reading.slow[0], &reading.slow[1]);
    }

    /// Where the comparison stands.
    pub fn e_values(&self) -> EValues {
        let from_start = self.budget.from_start;
        let errors = self.errors.as_ref().map(|test| test.value(from_start));
        let latency = self.latency.as_ref().map(|test| test.value(from_start));
        let part = self.budget.errors;
        let combined = match (errors, latency) {
            (Some(errors), Some(latency)) => part * errors + (1.0 - part) * latency,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => 1.0,
        };
        EValues { errors, latency, combined, threshold: self.threshold }
    }

    fn alarm_now(&self) -> Option<Alarm> {
        let values = self.e_values();
        if values.combined < values.threshold {
            return None;
        }
        let of_errors = values.errors.unwrap_or(0.0) * self.budget.errors;
        let of_latency = values.latency.unwrap_or(0.0) * (1.0 - self.budget.errors);
        let blames_errors =
            self.latency.is_none() || (self.errors.is_some() && of_errors >= of_latency);
        let (metric, evidence) = if blames_errors {
            ("errors", self.ledger.errors(values.combined))
        } else {
            let strongest = self.latency.as_ref().and_then(|t| t.strongest(self.budget.from_start));
            ("latency", self.ledger.latency(strongest, values.combined))
        };
        let [canary_requests, baseline_requests] = self.ledger.requests();
        let e_value = values.combined;
        Some(Alarm { metric, e_value, evidence, canary_requests, baseline_requests })
    }

    /// How many failed requests of the canary in a row, from here on, would be an alarm; `None` if
    /// more than 1000 or if errors are not compared now.
    pub fn errors_to_alarm(&self) -> Option<u32> {
        let mut trial = self.clone();
        trial.settle();
        let errors = trial.errors.as_mut()?;
        errors.is_comparing().then_some(())?;
        for more in 0..=1000 {
            if trial.e_values().combined >= trial.threshold {
                return Some(more);
            }
            trial.errors.as_mut()?.record(0, 1, 0);
        }
        None
    }

    /// Requests that were looked at, of canary and baseline.
    pub fn requests_seen(&self) -> [u64; 2] {
        self.ledger.requests()
    }
}
