//! Takes readings in and hands them to the tests. What they come to stands in [`super::combine`].

use super::combine::Alarm;
use super::errors::ErrorTest;
use super::evidence::Ledger;
use super::history::HistoryTest;
use super::latency::{LatencyTest, Slow};
use super::no_worse::NoWorse;
use super::routes::Routes;
use super::scalar::ScalarTest;
use super::schedule::{Begun, Schedule};
use super::sessions::Sessions;
use super::share::ShareGuard;
use crate::event::{Arm, MetricId, Shape, Worse};
use crate::mutants::{self, Mutant};
use crate::settings::{Budget, Settings};

/// The kind of event that a session's first failed request is; the others are quantiles.
const FAILED: u64 = u64::MAX;

/// No smaller one can be told from none.
const SMALLEST_BUDGET: f64 = 1e-9;

/// Kinds of events of sessions beside those that are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SessionKind {
    /// A request as slow as a fixed limit that warns.
    SlowToWarn = 32,
    /// A request as slow as a fixed limit that fails.
    SlowToFail = 33,
}

/// A reading of both sides that is not judged yet.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    at_ms: i64,
    total: [u64; 2],
    ok: [u64; 2],
    failed: [u64; 2],
    slow: [Slow; 2],
    fast: [u64; 2],
}

/// The running comparison of one rollout.
#[derive(Debug, Clone)]
pub struct Comparison {
    pub(super) errors: Option<ErrorTest>,
    pub(super) routes: Option<Routes>,
    pub(super) history: Option<HistoryTest>,
    pub(super) latency: Option<LatencyTest>,
    pub(super) scalars: Vec<ScalarTest>,
    no_worse: NoWorse,
    schedule: Schedule,
    pub(super) budget: Budget,
    pub(super) threshold: f64,
    warm_up_ms: i64,
    latency_warm_up_ms: i64,
    share: f64,
    share_used: f64,
    guard: ShareGuard,
    first_reading_ms: Option<i64>,
    first_canary_ms: Option<i64>,
    errors_begun: Begun,
    latency_begun: Begun,
    reading: Option<Reading>,
    /// One side of the reading is still to come.
    waiting: bool,
    /// Routes are recorded as they come: those of a gap, where sides come apart, are left out.
    routes_from_ms: i64,
    sessions: Option<Box<Sessions>>,
    pub(super) ledger: Ledger,
    alarm: Option<Alarm>,
}

impl Comparison {
    /// Begins with no traffic seen and no share in force.
    pub fn new(settings: &Settings) -> Self {
        let harmless = settings.harmless_error_rate;
        let compares = settings.compare_errors;
        let budget = settings.budget;
        let part = |part: f64| if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        let routes = part(budget.routes);
        let history = part(budget.history).min(1.0 - routes);
        Comparison {
            errors: compares.then(|| ErrorTest::new(harmless, settings.harmless_error_increase)),
            routes: (compares && routes > 0.0).then(|| Routes::new(harmless)),
            history: (compares && history > 0.0).then(|| HistoryTest::new(harmless)),
            latency: settings.compare_latency.then(|| {
                let floor_us = settings.harmless_latency_floor_us;
                LatencyTest::new(settings.harmless_latency_increase, floor_us)
            }),
            scalars: Vec::new(),
            no_worse: NoWorse::new(harmless),
            schedule: Schedule::new(settings.watch_ms),
            budget: Budget {
                errors: part(budget.errors),
                from_start: part(budget.from_start),
                routes,
                history,
            },
            threshold: 1.0 / budget_of(settings.false_rollback_probability),
            warm_up_ms: settings.warm_up_ms.max(0),
            latency_warm_up_ms: settings.latency_warm_up_ms.max(settings.warm_up_ms).max(0),
            share: 0.0,
            share_used: 0.0,
            guard: ShareGuard::default(),
            first_reading_ms: None,
            first_canary_ms: None,
            errors_begun: Begun::default(),
            latency_begun: Begun::default(),
            reading: None,
            waiting: false,
            routes_from_ms: i64::MIN,
            sessions: None,
            ledger: Ledger::default(),
            alarm: None,
        }
    }

    /// The canary's share of requests (or of sessions, where those are counted) from now on.
    pub fn weight(&mut self, share: f64) {
        self.settle();
        if self.waiting {
            // Half a reading of another share can't be judged by this one, nor by that.
            self.reading = None;
        }
        self.share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        self.guard = ShareGuard::default();
        self.use_share(self.share);
        if let Some(history) = &mut self.history
            && self.share >= 1.0
            && history.reference.is_none()
        {
            let (total, failed) = self.ledger.baseline();
            history.set_reference(total, failed);
        }
    }

    fn use_share(&mut self, share: f64) {
        if mutants::is(Mutant::ShareOfTheStart) && self.share_used > 0.0 {
            return;
        }
        let share = if mutants::is(Mutant::WrongShare) { share / 2.0 } else { share };
        self.share_used = share;
        if let Some(errors) = &mut self.errors {
            errors.set_share(share);
        }
        if let Some(latency) = &mut self.latency {
            latency.set_share(share);
        }
        if let Some(routes) = &mut self.routes
            && share > 0.0
            && share < 1.0
        {
            routes.set_share(share);
        }
        self.no_worse.set_share(share);
    }

    /// Takes a batch of one side in: (microseconds, count) are the latencies of those that did not
    /// fail. Batches of the same time are judged together, by [`settle`](Self::settle).
    pub fn requests(&mut self, at_ms: i64, arm: Arm, ok: u64, failed: u64, latency: &[(u64, u64)]) {
        let side = arm.index();
        let mut reading = self.reading_at(at_ms);
        reading.total[side] = reading.total[side].saturating_add(ok.saturating_add(failed));
        reading.ok[side] = reading.ok[side].saturating_add(ok);
        reading.failed[side] = reading.failed[side].saturating_add(failed);
        if let Some(test) = &mut self.latency {
            for &(us, count) in latency {
                let fast = test.count_slow(arm, us, count, &mut reading.slow[side]);
                reading.fast[side] = reading.fast[side].saturating_add(fast);
                if (arm == Arm::Baseline) != mutants::is(Mutant::LearnsFromTheCanary) {
                    test.learn(us, count);
                }
            }
        }
        self.reading = Some(reading);
    }

    /// Takes one request in that belongs to a session which stays on its side. The share in force
    /// is that of sessions, and each counts once (see `sessions`). `latency_us` of failed
    /// requests is left out. Gives what was counted of it, as (ok, failed).
    pub fn session_request(
        &mut self,
        at_ms: i64,
        arm: Arm,
        session: u64,
        ok: bool,
        latency_us: Option<u64>,
    ) -> (u64, u64) {
        let side = arm.index();
        let mut reading = self.reading_at(at_ms);
        if self.sessions.is_none() {
            self.leave_one_out();
        }
        let sessions = self.sessions.get_or_insert_with(|| Box::new(Sessions::new()));
        reading.total[side] = reading.total[side].saturating_add(1);
        let counted = if ok {
            (u64::from(!sessions.had(session, FAILED)), 0)
        } else {
            (0, u64::from(sessions.is_first(session, FAILED)))
        };
        reading.ok[side] = reading.ok[side].saturating_add(counted.0);
        reading.failed[side] = reading.failed[side].saturating_add(counted.1);
        if let (Some(test), Some(us), true) = (&mut self.latency, latency_us, ok) {
            let mut slow = Slow::default();
            test.count_slow(arm, us, 1, &mut slow);
            for (kind, count) in slow.into_iter().enumerate() {
                if count > 0 && sessions.is_first(session, kind as u64) {
                    reading.slow[side][kind] = reading.slow[side][kind].saturating_add(1);
                }
            }
            if arm == Arm::Baseline {
                test.learn(us, 1);
            }
        }
        self.reading = Some(reading);
        counted
    }

    /// What counts from now on are sessions, and the worst of the canary's is left out.
    fn leave_one_out(&mut self) {
        if let Some(errors) = &mut self.errors {
            errors.leave_one_out();
        }
        if let Some(history) = &mut self.history {
            history.leave_one_out();
        }
        if let Some(latency) = &mut self.latency {
            latency.leave_one_out();
        }
    }

    /// Whether this session does this for the first time, for rules that are no comparisons.
    pub(crate) fn is_first_of_session(&mut self, session: u64, kind: SessionKind) -> bool {
        let sessions = self.sessions.get_or_insert_with(|| Box::new(Sessions::new()));
        sessions.is_first(session, kind as u64)
    }

    /// Takes requests in that ended while the split changed, or of which a part was lost: no comparison can use them,
    /// nor what waits for its other side. Gives up nothing but speed.
    pub fn unattributed(&mut self, at_ms: i64, arm: Arm, ok: u64, failed: u64) {
        if self.waiting {
            self.reading = None;
        } else {
            self.settle();
        }
        let mut seen = [0; 2];
        seen[arm.index()] = ok.saturating_add(failed);
        let mut failures = [0; 2];
        failures[arm.index()] = failed;
        self.ledger.seen(seen, failures);
        self.routes_from_ms = self.routes_from_ms.max(at_ms.saturating_add(1));
        if seen[0] > 0 && self.first_canary_ms.is_none() {
            self.first_canary_ms = Some(at_ms);
        }
    }

    /// While true, what comes in is kept as one reading: a side's counters could not be read, and
    /// the other's are judged together with what covers the gap.
    pub fn wait(&mut self, at_ms: i64, waiting: bool) {
        if waiting && !self.waiting && self.reading.is_some_and(|reading| reading.at_ms != at_ms) {
            self.settle();
        }
        if self.waiting && !waiting {
            // What covers the gap joins it.
            if let Some(reading) = &mut self.reading {
                reading.at_ms = at_ms;
            }
            self.routes_from_ms = at_ms.saturating_add(1);
        }
        self.waiting = waiting;
    }

    /// Takes the part of a reading in that went to one route.
    pub fn route(&mut self, at_ms: i64, arm: Arm, route: u64, ok: u64, failed: u64) {
        let reading = self.reading_at(at_ms);
        self.reading = Some(reading);
        let elapsed_ms = self.elapsed(at_ms, self.warm_up_ms);
        let whole = !self.waiting && at_ms >= self.routes_from_ms;
        if let (Some(routes), Some(elapsed_ms), true) =
            (&mut self.routes, elapsed_ms, whole && is_split(self.share))
        {
            routes.record(route, arm, (ok, failed), &self.schedule, elapsed_ms);
        }
    }

    /// What was usual before: total and failed requests of the past.
    pub fn reference(&mut self, total: u64, failed: u64) {
        self.settle();
        if let Some(history) = &mut self.history {
            history.set_reference(total, failed);
        }
    }

    /// Makes a metric known that has a value on both sides. All of them share, with latency, what
    /// errors leave of the budget, so they must be known before the first reading: `None` after it,
    /// or from the 65th on.
    pub fn add_metric(&mut self, name: &str, worse: Worse, tolerance: f64) -> Option<MetricId> {
        self.add_shaped_metric(name, worse, tolerance, Shape::Any)
    }

    /// The same for a metric of whose values something is known.
    pub fn add_shaped_metric(
        &mut self,
        name: &str,
        worse: Worse,
        tolerance: f64,
        shape: Shape,
    ) -> Option<MetricId> {
        if self.first_reading_ms.is_some() || self.reading.is_some() || self.scalars.len() >= 64 {
            return None;
        }
        self.scalars.push(ScalarTest::new(name, worse, tolerance, shape));
        Some(MetricId(self.scalars.len() as u32 - 1))
    }

    /// What a metric is called.
    pub fn metric_name(&self, metric: MetricId) -> String {
        self.scalars.get(metric.0 as usize).map_or_else(String::new, |test| test.name.clone())
    }

    /// Takes requests in that were sent to both sides in equal number: of their errors, half fall to
    /// the canary if it is no worse. As exact as any change of weight.
    pub fn synthetic(&mut self, at_ms: i64, canary: (u64, u64), baseline: (u64, u64)) {
        if !is_split(self.share) {
            return;
        }
        self.settle();
        let (share, guard, used) = (self.share, self.guard, self.share_used);
        self.share = 0.5;
        self.guard = ShareGuard::default();
        self.use_share(0.5);
        self.requests(at_ms, Arm::Canary, canary.0, canary.1, &[]);
        self.requests(at_ms, Arm::Baseline, baseline.0, baseline.1, &[]);
        self.settle();
        self.share = share;
        self.guard = guard;
        self.use_share(used);
    }

    /// Takes a reading of such a metric in.
    pub fn metric(
        &mut self,
        at_ms: i64,
        metric: MetricId,
        canary: Option<f64>,
        baseline: Option<f64>,
    ) {
        let reading = self.reading_at(at_ms);
        if reading.total == [0, 0] && self.first_reading_ms.is_none() {
            // The metrics' own beginning closes the list of metrics too.
            self.first_reading_ms = is_split(self.share).then_some(at_ms);
        }
        self.reading = Some(reading);
        let warm = self.warm_up_ms == 0 || self.elapsed(at_ms, self.warm_up_ms).is_some();
        if let (Some(test), true) = (self.scalars.get_mut(metric.0 as usize), warm) {
            test.record(at_ms, canary, baseline, &self.schedule);
        }
    }

    /// The reading of this moment; one of another moment is judged first.
    fn reading_at(&mut self, at_ms: i64) -> Reading {
        if self.reading.is_some_and(|reading| reading.at_ms != at_ms) {
            self.settle();
        }
        // Only a reading that waits for its other side is older.
        let reading = self.reading.take().unwrap_or_default();
        Reading { at_ms, ..reading }
    }

    /// Judges what came in since the last call; the first alarm stays.
    pub fn settle(&mut self) -> Option<&Alarm> {
        if let Some(reading) = self.reading.take_if(|_| !self.waiting) {
            self.judge(&reading);
            if self.alarm.is_none() {
                self.alarm = self.alarm_now();
            }
        }
        self.alarm.as_ref()
    }

    /// The alarm as it would be if everything was judged now.
    pub fn pending(&self) -> Option<Alarm> {
        if self.alarm.is_some() || self.reading.is_none() || self.waiting {
            return self.alarm.clone();
        }
        self.clone().settle().cloned()
    }

    fn judge(&mut self, reading: &Reading) {
        let [canary, baseline] = reading.total;
        let comparing = is_split(self.share);
        if comparing && self.first_reading_ms.is_none() {
            self.first_reading_ms = Some(reading.at_ms);
        }
        if canary > 0 && self.first_canary_ms.is_none() {
            self.first_canary_ms = Some(reading.at_ms);
        }
        self.ledger.seen(reading.total, reading.failed);
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
        self.judge_history(reading);
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
        let endless = mutants::is(Mutant::EndlessWarmUp) && warm_up_ms > 0;
        (elapsed_ms >= 0 && !endless).then_some(elapsed_ms)
    }

    fn judge_errors(&mut self, elapsed_ms: i64, reading: &Reading) {
        let Some(errors) = &mut self.errors else { return };
        errors.start(self.errors_begun.advance(&self.schedule, elapsed_ms));
        errors.record(reading.ok[0], reading.failed[0], reading.failed[1]);
        self.no_worse.record_errors(reading.ok[0], reading.failed);
    }

    fn judge_latency(&mut self, elapsed_ms: i64, reading: &Reading) {
        let Some(latency) = &mut self.latency else { return };
        latency.start(self.latency_begun.advance(&self.schedule, elapsed_ms));
        latency.record(&reading.slow[0], &reading.slow[1], reading.fast);
        self.no_worse.record_latency(&reading.slow);
    }

    fn judge_history(&mut self, reading: &Reading) {
        let warm = self.warm_up_ms == 0 || self.elapsed(reading.at_ms, self.warm_up_ms).is_some();
        if let (Some(history), true) = (&mut self.history, warm && !is_split(self.share)) {
            history.record(reading.at_ms, reading.ok[0], reading.failed[0], &self.schedule);
        }
    }

    /// Whether it is shown that the canary is no worse (see `no_worse`).
    pub fn shows_no_worse(&self) -> bool {
        self.no_worse.is_shown(self.errors.is_some(), self.latency.is_some())
    }
}

/// What is no number is no permission to take anything back.
fn budget_of(probability: f64) -> f64 {
    if probability.is_nan() { SMALLEST_BUDGET } else { probability.clamp(SMALLEST_BUDGET, 1.0) }
}

/// Whether both sides have a part.
fn is_split(share: f64) -> bool {
    share > 0.0 && share < 1.0
}
