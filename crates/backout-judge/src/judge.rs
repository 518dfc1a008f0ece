//! The judge itself: takes events in, keeps the first failure.

use crate::checks::{Availability, Check};
use crate::event::{Arm, CheckId, CheckSample, Event, MetricId, Shape, Worse};
use crate::exits::{Exit, Exits};
use crate::limits::MetricLimit;
use crate::mutants::{self, Mutant};
use crate::sequential::{Comparison, SessionKind};
use crate::settings::Settings;
use crate::thresholds::{self, Finding};
use crate::trace::Trace;
use crate::traffic::Traffic;
use crate::verdict::{Cause, Failure};
use crate::windows::{Tally, Window};

/// Which of the windows.
const SHORT: usize = 0;
const MEDIUM: usize = 1;
const LONG: usize = 2;

/// Turns what is seen of a release into verdicts. Failing is latched: once found it stays.
///
/// Both sides of one reading carry the same time; they are judged together when time goes on or a
/// verdict is asked for, so that a fault of both is never blamed on the side shown first. Show
/// both before asking.
#[derive(Debug, Clone)]
pub struct Judge {
    pub(crate) settings: Settings,
    pub(crate) now_ms: i64,
    pub(crate) checks: Vec<Check>,
    twins: Vec<Option<usize>>,
    pub(crate) exits: Exits,
    pub(crate) traffic: Traffic,
    /// Short, medium and long, each for canary and baseline.
    windows: [[Window; 2]; 3],
    pub(crate) comparison: Comparison,
    pub(crate) limits: Vec<MetricLimit>,
    pub(crate) baking: bool,
    unsettled: bool,
    /// Since when a side's requests could not be read.
    unread_ms: [Option<i64>; 2],
    /// What the windows are shown once both sides are read: they must cover the same time.
    held: [Tally; 2],
    trace: Trace,
    failure: Option<Failure>,
}

impl Judge {
    /// A judge that has seen nothing yet.
    pub fn new(settings: Settings, now_ms: i64) -> Self {
        let window = |ms| [Window::new(ms), Window::new(ms)];
        Judge {
            now_ms,
            checks: Vec::new(),
            twins: Vec::new(),
            exits: Exits::default(),
            traffic: Traffic::new(now_ms),
            windows: [
                window(settings.window_short_ms),
                window(settings.window_medium_ms),
                window(settings.window_long_ms),
            ],
            comparison: Comparison::new(&settings),
            limits: Vec::new(),
            baking: false,
            unsettled: false,
            unread_ms: [None; 2],
            held: [Tally::default(); 2],
            trace: Trace::default(),
            failure: None,
            settings,
        }
    }

    /// Makes a scheduled check known. Its data are missing once they are older than two intervals.
    /// A check of the same name and service on the other side is its twin: a limit that both break
    /// is a shared fault.
    pub fn add_check(&mut self, name: &str, service: &str, arm: Arm, interval_ms: i64) -> CheckId {
        let check = Check::new(name, service, arm, interval_ms, self.now_ms, &self.settings);
        let index = self.checks.len();
        let twin = self.checks.iter().position(|other| check.is_twin_of(other));
        if let Some(twin) = twin {
            self.twins[twin] = Some(index);
        }
        self.checks.push(check);
        self.twins.push(twin);
        CheckId(u32::try_from(index).expect("fewer checks than u32 can count"))
    }

    /// Makes a metric known that has a value on both sides; `tolerance` is the relative difference
    /// that is no reason. Only before the first reading, and at most 64: `None` otherwise.
    pub fn add_metric(&mut self, name: &str, worse: Worse, tolerance: f64) -> Option<MetricId> {
        self.comparison.add_metric(name, worse, tolerance)
    }

    /// The same for a metric of whose values something is known.
    pub fn add_shaped_metric(
        &mut self,
        name: &str,
        worse: Worse,
        tolerance: f64,
        shape: Shape,
    ) -> Option<MetricId> {
        self.comparison.add_shaped_metric(name, worse, tolerance, shape)
    }

    /// Gives a metric fixed limits beside the comparison. `worse` as it was made known with.
    pub fn limit_metric(
        &mut self,
        metric: MetricId,
        worse: Worse,
        warn: Option<f64>,
        fail: Option<f64>,
    ) {
        let name = self.comparison.metric_name(metric);
        self.limits.push(MetricLimit::new(metric, name, worse, warn, fail));
    }

    /// Takes one event in.
    pub fn observe(&mut self, event: Event<'_>) {
        let at_ms = event.at_ms();
        if at_ms > self.now_ms {
            self.settle();
            self.now_ms = at_ms;
        }
        match event {
            Event::Weight { canary_share, .. } => {
                let share = if canary_share.is_finite() { canary_share } else { 0.0 };
                self.settle();
                self.traffic.weight(self.now_ms, share.clamp(0.0, 1.0));
                self.comparison.weight(share.clamp(0.0, 1.0));
            }
            Event::Requests { arm, ok, failed, latency, .. } => {
                self.take_requests(arm, ok, failed, latency);
            }
            Event::Session { arm, session, ok, latency_us, .. } => {
                self.take_session(arm, session, ok, latency_us);
            }
            Event::Unattributed { arm, ok, failed, latency, .. } => {
                self.comparison.unattributed(self.now_ms, arm, ok, failed);
                self.end_gap(arm);
                self.tally(arm, ok, failed, latency);
                self.unsettled = true;
            }
            Event::Unread { .. } if mutants::is(Mutant::GapIsSilence) => {}
            Event::Unread { arm, .. } => {
                self.unread_ms[arm.index()].get_or_insert(self.now_ms);
                self.comparison.wait(self.now_ms, true);
                self.traffic.restart_gap(self.now_ms);
            }
            Event::Route { arm, route, ok, failed, .. } => {
                self.comparison.route(self.now_ms, arm, route, ok, failed);
                self.unsettled = true;
            }
            Event::Reference { total, failed, .. } => self.comparison.reference(total, failed),
            Event::Metric { metric, canary, baseline, .. } => {
                self.comparison.metric(self.now_ms, metric, canary, baseline);
                let split = self.traffic.share.is_some_and(|share| share > 0.0 && share < 1.0);
                for limit in self.limits.iter_mut().filter(|limit| limit.metric == metric) {
                    limit.record(canary, baseline, split);
                }
                self.unsettled = true;
            }
            Event::Synthetic { canary, baseline, .. } => self.take_synthetic(canary, baseline),
            Event::Check { at_ms, arm: _, check, sample } => self.check(at_ms, check, &sample),
            Event::Exited { at_ms, arm, service, code, restarts, before_first_pass } => {
                let exit = Exit { at_ms, code, restarts, before_first_pass };
                let found = self.exits.observe(arm, service, exit, &self.settings);
                self.latch(found.filter(|_| arm == Arm::Canary));
            }
            Event::StageBegan { .. } => self.stage_began(),
            Event::BakeBegan { .. } => {
                self.baking = true;
                self.stage_began();
            }
        }
    }

    fn stage_began(&mut self) {
        self.settle();
        self.traffic.stage_began(self.now_ms);
    }

    /// This side could be read again.
    fn end_gap(&mut self, arm: Arm) {
        if self.unread_ms[arm.index()].take().is_some() {
            self.traffic.restart_gap(self.now_ms);
            self.comparison.wait(self.now_ms, self.is_waiting());
            if !self.is_waiting() {
                for (arm, held) in std::mem::take(&mut self.held).into_iter().enumerate() {
                    self.windows.iter_mut().for_each(|window| window[arm].add(self.now_ms, &held));
                }
            }
        }
    }

    fn take_requests(&mut self, arm: Arm, ok: u64, failed: u64, latency: &[(u64, u64)]) {
        self.end_gap(arm);
        self.tally(arm, ok, failed, latency);
        self.comparison.requests(self.now_ms, arm, ok, failed, latency);
        self.unsettled = true;
    }

    fn take_session(&mut self, arm: Arm, session: u64, ok: bool, latency_us: Option<u64>) {
        self.end_gap(arm);
        self.traffic.by_session = true;
        let at_ms = self.now_ms;
        let (ok, failed) = self.comparison.session_request(at_ms, arm, session, ok, latency_us);
        let latency = latency_us
            .filter(|us| ok > 0 && self.is_new_for_limits(session, *us))
            .map(|us| [(us, 1)]);
        self.tally(arm, ok, failed, latency.as_ref().map_or(&[], |one| &one[..]));
        self.unsettled = true;
    }

    /// A session that is slow by a fixed limit is slow once, whatever it sends.
    fn is_new_for_limits(&mut self, session: u64, us: u64) -> bool {
        let limit = self.settings.thresholds.response_time_ms;
        let ms = us as f64 / 1_000.0;
        if ms >= limit.fail {
            self.comparison.is_first_of_session(session, SessionKind::SlowToFail)
        } else {
            ms < limit.warn || self.comparison.is_first_of_session(session, SessionKind::SlowToWarn)
        }
    }

    /// Whether one side's requests could not be read and the other's wait for them.
    pub(crate) fn is_waiting(&self) -> bool {
        self.unread_ms.iter().any(Option::is_some)
    }

    /// Which side's requests could not be read, and since when.
    pub(crate) fn unread(&self) -> impl Iterator<Item = (Arm, i64)> {
        let arms = [Arm::Canary, Arm::Baseline].into_iter().zip(self.unread_ms);
        arms.filter_map(|(arm, since_ms)| since_ms.map(|since_ms| (arm, since_ms)))
    }

    /// For the rules that are no comparisons: fixed limits and traffic.
    fn tally(&mut self, arm: Arm, ok: u64, failed: u64, latency: &[(u64, u64)]) {
        let limit = self.settings.thresholds.response_time_ms;
        let mut tally = Tally { total: ok.saturating_add(failed), failed, ..Tally::default() };
        for &(us, count) in latency {
            let ms = us as f64 / 1_000.0;
            tally.timed = tally.timed.saturating_add(count);
            if ms >= limit.warn {
                tally.slow_warn = tally.slow_warn.saturating_add(count);
            }
            if ms >= limit.fail {
                tally.slow_fail = tally.slow_fail.saturating_add(count);
            }
        }
        self.traffic.requests(self.now_ms, arm, ok, failed);
        if self.is_waiting() {
            self.held[arm.index()].add(&tally);
            self.traffic.restart_gap(self.now_ms);
        } else {
            for window in &mut self.windows {
                window[arm.index()].add(self.now_ms, &tally);
            }
        }
    }

    fn take_synthetic(&mut self, canary: (u64, u64), baseline: Option<(u64, u64)>) {
        self.settle();
        let sides = [(Arm::Canary, Some(canary)), (Arm::Baseline, baseline)];
        for (arm, (ok, failed)) in sides.into_iter().filter_map(|(arm, of)| Some((arm, of?))) {
            let tally = Tally { total: ok.saturating_add(failed), failed, ..Tally::default() };
            for window in &mut self.windows {
                window[arm.index()].add(self.now_ms, &tally);
            }
            self.traffic.synthetic(arm, tally.total);
        }
        if let Some(baseline) = baseline {
            self.comparison.synthetic(self.now_ms, canary, baseline);
        }
        self.unsettled = true;
    }

    fn check(&mut self, at_ms: i64, id: CheckId, sample: &CheckSample) {
        let index = id.0 as usize;
        let Some(twin) = self.twins.get(index).copied() else { return };
        let shared_with = twin.map(|twin| self.checks[twin].fresh_breaches(at_ms));
        let check = &mut self.checks[index];
        let found = check.observe(at_ms, sample, shared_with.unwrap_or_default(), &self.settings);
        let found = found.filter(|_| check.arm == Arm::Canary);
        self.latch(found);
        self.unsettled = true;
    }

    /// Judges everything seen up to now, before time goes on.
    fn settle(&mut self) {
        if std::mem::take(&mut self.unsettled) && self.failure.is_none() {
            self.comparison.settle();
            self.trace.note(self.now_ms, self.comparison.e_values().combined);
            let found = self.failure_at(self.now_ms);
            self.latch(found);
        }
    }

    fn latch(&mut self, found: Option<Failure>) {
        if self.failure.is_none() {
            self.failure = found;
        }
    }

    /// The failure there is, or that there is by now.
    pub(crate) fn failure_at(&self, now_ms: i64) -> Option<Failure> {
        if let Some(failure) = &self.failure {
            return Some(failure.clone());
        }
        self.canary_checks()
            .find_map(|check| check.start_timed_out(now_ms, &self.settings))
            .or_else(|| self.compared())
            .or_else(|| self.traffic.starved(now_ms, &self.settings))
            .or_else(|| self.limits.iter().find_map(|limit| limit.failure(&self.settings)))
            .or_else(|| self.over_threshold(now_ms))
    }

    fn compared(&self) -> Option<Failure> {
        self.comparison.pending().map(|alarm| Failure {
            cause: Cause::Analysis,
            evidence: alarm.evidence,
            metric: Some(alarm.metric),
        })
    }

    fn over_threshold(&self, now_ms: i64) -> Option<Failure> {
        let fail = |metric: &'static str, evidence| {
            Some(Failure { cause: Cause::Threshold, evidence, metric: Some(metric.into()) })
        };
        // Half a reading can't tell whether the other side suffers too.
        let whole = !self.is_waiting();
        for (drives, finding) in self.findings(now_ms) {
            if let (true, Finding::Fail(metric, evidence)) = (drives && whole, finding) {
                return fail(metric, evidence);
            }
        }
        for (index, check) in self.checks.iter().enumerate() {
            if let (Arm::Canary, Availability::Fail(evidence)) =
                (check.arm, self.availability(index, now_ms))
                && !self.twin_unavailable(index, now_ms)
            {
                return fail("availability", evidence);
            }
        }
        None
    }

    pub(crate) fn availability(&self, index: usize, now_ms: i64) -> Availability {
        self.checks[index].unavailable(now_ms, &self.settings)
    }

    pub(crate) fn twin_unavailable(&self, index: usize, now_ms: i64) -> bool {
        let twin = self.twins[index].map(|twin| self.availability(twin, now_ms));
        matches!(twin, Some(Availability::Fail(_)))
    }

    /// What each window says of each ratio, and whether it drives verdicts or only warns.
    pub(crate) fn findings(&self, now_ms: i64) -> impl Iterator<Item = (bool, Finding)> + '_ {
        [SHORT, MEDIUM, LONG].into_iter().flat_map(move |which| {
            let drives = which == SHORT || (which == MEDIUM && self.baking);
            let length_ms = match which {
                SHORT => self.settings.window_short_ms,
                MEDIUM => self.settings.window_medium_ms,
                _ => self.settings.window_long_ms,
            };
            let [canary, baseline] = &self.windows[which];
            let (canary, baseline) = (canary.sum_at(now_ms), baseline.sum_at(now_ms));
            let errors = thresholds::error_rate(&canary, &baseline, length_ms, &self.settings);
            let time = thresholds::response_time(&canary, &baseline, length_ms, &self.settings);
            [(drives, errors), (drives, time)]
        })
    }

    pub(crate) fn canary_checks(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.arm == Arm::Canary)
    }

    /// The smallest number of consecutive passes over that side's checks; `None` without checks.
    pub fn passes(&self, arm: Arm) -> Option<u32> {
        self.checks.iter().filter(|check| check.arm == arm).map(Check::passes).min()
    }

    /// Requests of that side in this stage, and those of them that failed.
    pub fn requests(&self, arm: Arm) -> (u64, u64) {
        let counts = self.traffic.stage(arm);
        (counts.total, counts.failed)
    }

    /// Whether that side had any request in this stage.
    pub fn stage_had_traffic(&self, arm: Arm) -> bool {
        self.traffic.stage(arm).total > 0
    }

    /// How the evidence grew.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Whether it is shown that the canary is no worse than the baseline, so that a stage may be
    /// left before its hold is over.
    pub fn shows_no_worse(&self) -> bool {
        self.failure.is_none() && self.comparison.shows_no_worse()
    }

    /// The running comparison, for those who explain it.
    pub fn comparison(&self) -> &Comparison {
        &self.comparison
    }
}
