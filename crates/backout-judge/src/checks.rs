//! Scheduled checks: failures and passes in a row, starting, fixed limits on what a check
//! reports, and data that got too old.

use crate::event::{Arm, CheckOutcome, CheckSample};
use crate::settings::Settings;
use crate::verdict::{Cause, Failure};
use crate::windows::{Tally, Window};
use crate::words;

/// More failures in a row than this are not remembered one by one.
const MAX_COUNT: usize = 1024;

/// Which fixed limits a sample broke.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Breaches {
    error_rate: bool,
    availability: bool,
    response_time: bool,
}

impl Breaches {
    fn any(self) -> bool {
        self.error_rate || self.availability || self.response_time
    }

    fn within(self, other: Breaches) -> bool {
        (!self.error_rate || other.error_rate)
            && (!self.availability || other.availability)
            && (!self.response_time || other.response_time)
    }
}

/// How a sample counts once the limits and the first pass are taken into account.
#[derive(Debug, Clone, PartialEq)]
enum Counted {
    Pass,
    Warn(String),
    Fail(String),
    Starting(String),
    Unreachable(String),
}

/// One check and what is remembered of it.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub arm: Arm,
    name: String,
    service: String,
    interval_ms: i64,
    added_ms: i64,
    /// Start of the last check that came to a result.
    last_ms: Option<i64>,
    last: Option<Counted>,
    breaches: Breaches,
    /// The last breach was shared with the baseline's twin.
    pub shared: bool,
    passes: u32,
    passed_once: bool,
    was_starting: bool,
    /// Starts of the failing checks in a row, a ring of `consecutive_failures.count`.
    failing_ms: Vec<i64>,
    failing: u64,
    window: Window,
}

impl Check {
    pub fn new(
        name: &str,
        service: &str,
        arm: Arm,
        interval_ms: i64,
        now_ms: i64,
        settings: &Settings,
    ) -> Self {
        let count = (settings.consecutive_failures.count.max(1) as usize).min(MAX_COUNT);
        Check {
            arm,
            name: name.to_owned(),
            service: service.to_owned(),
            interval_ms: interval_ms.max(1),
            added_ms: now_ms,
            last_ms: None,
            last: None,
            breaches: Breaches::default(),
            shared: false,
            passes: 0,
            passed_once: false,
            was_starting: false,
            failing_ms: vec![0; count],
            failing: 0,
            window: Window::new(settings.window_short_ms),
        }
    }

    /// The same check of the other side.
    pub fn is_twin_of(&self, other: &Check) -> bool {
        self.arm != other.arm && self.name == other.name && self.service == other.service
    }

    fn title(&self) -> String {
        format!("{}/{}", self.service, self.name)
    }

    pub fn passes(&self) -> u32 {
        self.passes
    }

    /// The limits its last sample broke, unless that is too old to mean anything.
    pub fn fresh_breaches(&self, now_ms: i64) -> Breaches {
        if self.is_stale(now_ms) { Breaches::default() } else { self.breaches }
    }

    /// Takes a sample in, with the limits that the other side's twin breaks; says whether it makes this side fail.
    pub fn observe(
        &mut self,
        at_ms: i64,
        sample: &CheckSample,
        shared_with: Breaches,
        settings: &Settings,
    ) -> Option<Failure> {
        if let Some(failure) = self.start_timed_out(at_ms, settings) {
            return Some(failure);
        }
        let counted = self.count(sample, shared_with, settings);
        match &counted {
            Counted::Unreachable(_) => {}
            Counted::Starting(_) => {
                self.was_starting = true;
                self.passes = 0;
                self.last_ms = Some(at_ms);
            }
            Counted::Pass | Counted::Warn(_) => {
                self.passed_once = true;
                self.passes = self.passes.saturating_add(1);
                self.failing = 0;
                self.last_ms = Some(at_ms);
                self.window.add(at_ms, &Tally { total: 1, ..Tally::default() });
            }
            Counted::Fail(_) => {
                self.passes = 0;
                let ring = self.failing_ms.len() as u64;
                self.failing_ms[(self.failing % ring) as usize] = at_ms;
                self.failing += 1;
                self.last_ms = Some(at_ms);
                self.window.add(at_ms, &Tally { total: 1, failed: 1, ..Tally::default() });
            }
        }
        let mismatch = sample.version_mismatch.as_ref().map(|words| Failure {
            cause: Cause::VersionMismatch,
            evidence: format!("{}: {words}", self.service),
            metric: Some("version".into()),
        });
        self.last = Some(counted);
        mismatch.or_else(|| self.failed_in_a_row(settings))
    }

    /// Translates a sample: limits make a good one bad, the first pass makes *starting* bad.
    fn count(
        &mut self,
        sample: &CheckSample,
        shared_with: Breaches,
        settings: &Settings,
    ) -> Counted {
        self.shared = false;
        let words = match &sample.outcome {
            CheckOutcome::Unreachable(words) => return Counted::Unreachable(words.clone()),
            CheckOutcome::Starting(words) if !self.passed_once => {
                self.breaches = Breaches::default();
                return Counted::Starting(words.clone());
            }
            CheckOutcome::Starting(words) | CheckOutcome::Fail(words) => {
                self.breaches = Breaches::default();
                return Counted::Fail(words.clone());
            }
            CheckOutcome::Pass => None,
            CheckOutcome::Warn(words) => Some(words.clone()),
        };
        let (breaches, found) = limits_broken(sample, settings);
        self.breaches = breaches;
        if breaches.any() {
            if breaches.within(shared_with) {
                self.shared = true;
                return Counted::Warn(format!("{found}; the baseline's too"));
            }
            return Counted::Fail(found);
        }
        match (words, found.is_empty()) {
            (None, true) => Counted::Pass,
            (Some(words), _) => Counted::Warn(words),
            (None, false) => Counted::Warn(found),
        }
    }

    fn failed_in_a_row(&self, settings: &Settings) -> Option<Failure> {
        let rule = settings.consecutive_failures;
        let count = self.failing_ms.len() as u64;
        if self.failing < count {
            return None;
        }
        let newest = self.failing_ms[((self.failing - 1) % count) as usize];
        let oldest = self.failing_ms[(self.failing % count) as usize];
        let apart_ms = newest.saturating_sub(oldest);
        if apart_ms > rule.within_ms {
            return None;
        }
        let Some(Counted::Fail(words)) = &self.last else { return None };
        Some(Failure {
            cause: Cause::HealthCheckFailed,
            evidence: format!(
                "{}: check {} failed {} in {}, last: {words}",
                self.service,
                self.name,
                words::times_in_a_row(count),
                words::duration(apart_ms),
            ),
            metric: Some("health".into()),
        })
    }

    /// It answered like something that starts, never passed, and its time is over.
    pub fn start_timed_out(&self, now_ms: i64, settings: &Settings) -> Option<Failure> {
        let late = now_ms.saturating_sub(self.added_ms) > settings.startup_timeout_ms;
        if self.passed_once || !self.was_starting || !late {
            return None;
        }
        let words = match &self.last {
            Some(Counted::Starting(words) | Counted::Fail(words)) => words.as_str(),
            _ => "no answer",
        };
        Some(Failure {
            cause: Cause::StartupFailure,
            evidence: format!(
                "{}: check {} did not pass within {} of the start, last: {words}",
                self.service,
                self.name,
                words::duration(settings.startup_timeout_ms),
            ),
            metric: Some("start".into()),
        })
    }

    /// No result newer than two intervals.
    pub fn is_stale(&self, now_ms: i64) -> bool {
        let limit_ms = self.interval_ms.saturating_mul(2);
        self.last_ms.is_none_or(|last| now_ms.saturating_sub(last) > limit_ms)
    }

    /// Availability made of checks is at or under the failing limit. Fewer failing checks than
    /// make a row fail nothing here either: one lost packet in 20 checks is already 95 %.
    pub fn unavailable(&self, now_ms: i64, settings: &Settings) -> Availability {
        let tally = self.window.sum_at(now_ms);
        let enough = tally.total >= u64::from(settings.minimum_samples).max(1);
        let limit = settings.thresholds.availability_percent;
        let percent = 100.0 - tally.failed_percent();
        let words = || {
            format!(
                "{}: {percent:.1} % of {} checks {} passed in the last {}",
                self.service,
                tally.total,
                self.name,
                words::duration(settings.window_short_ms),
            )
        };
        if !enough || percent > limit.warn {
            Availability::Good
        } else if percent <= limit.fail
            && tally.failed >= u64::from(settings.consecutive_failures.count)
        {
            Availability::Fail(words())
        } else {
            Availability::Warn(words())
        }
    }

    /// What keeps this side from being called healthy.
    pub fn missing(&self, now_ms: i64, settings: &Settings) -> Option<String> {
        let title = self.title();
        match (&self.last, self.last_ms) {
            (None, _) => return Some(format!("{title} has not been checked yet")),
            (Some(Counted::Unreachable(words)), _) if self.is_stale(now_ms) => {
                return Some(format!("{title} could not be checked: {words}"));
            }
            (Some(Counted::Starting(words)), _) => {
                return Some(format!("{title} is starting: {words}"));
            }
            (Some(_), Some(last)) if self.is_stale(now_ms) => {
                let age = words::duration(now_ms.saturating_sub(last));
                return Some(format!("{title} was last checked {age} ago"));
            }
            _ => {}
        }
        if self.passes >= settings.consecutive_passes {
            return None;
        }
        let needed = settings.consecutive_passes;
        let reason = match &self.last {
            Some(Counted::Fail(words)) => format!(" (last: {words})"),
            _ => String::new(),
        };
        Some(format!("{title} has {} of {needed} passes in a row{reason}", self.passes))
    }

    /// What is worth saying although it fails nothing.
    pub fn warning(&self, now_ms: i64) -> Option<String> {
        let title = format!("{} {}", self.arm.word(), self.title());
        match &self.last {
            Some(Counted::Warn(words)) => Some(format!("{title}: {words}")),
            Some(Counted::Fail(words)) => Some(format!("{title} fails: {words}")),
            Some(Counted::Unreachable(words)) => {
                Some(format!("{title} could not be checked: {words}"))
            }
            _ if self.arm == Arm::Baseline && self.is_stale(now_ms) => {
                Some(format!("{title} has no recent result"))
            }
            _ => None,
        }
    }
}

/// What the availability over the window comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Availability {
    Good,
    Warn(String),
    Fail(String),
}

/// Which failing limits a sample breaks, and in words what it breaks or nearly breaks.
fn limits_broken(sample: &CheckSample, settings: &Settings) -> (Breaches, String) {
    let limits = &settings.thresholds;
    let response_ms = sample.response_time_ms.unwrap_or(sample.latency_ms);
    let error_rate = sample.error_rate.unwrap_or(f64::NEG_INFINITY);
    let availability = sample.availability.unwrap_or(f64::INFINITY);
    // A value that is not a number breaks nothing: comparisons with it are false.
    let breaches = Breaches {
        error_rate: error_rate >= limits.error_rate_percent.fail,
        availability: availability <= limits.availability_percent.fail,
        response_time: response_ms >= limits.response_time_ms.fail,
    };
    let all = !breaches.any();
    let mut found = String::new();
    let mut say = |broken: bool, near: bool, words: String| {
        if broken || (all && near) {
            if !found.is_empty() {
                found.push_str(", ");
            }
            found.push_str(&words);
        }
    };
    say(
        breaches.error_rate,
        error_rate >= limits.error_rate_percent.warn,
        format!("error rate {error_rate:.1} %"),
    );
    say(
        breaches.availability,
        availability <= limits.availability_percent.warn,
        format!("availability {availability:.1} %"),
    );
    say(
        breaches.response_time,
        response_ms >= limits.response_time_ms.warn,
        format!("response time {response_ms:.0} ms"),
    );
    (breaches, found)
}
