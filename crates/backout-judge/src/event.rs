//! What the judge is shown: an order of events in the caller's time.

use serde::{Deserialize, Serialize};

/// Which side something was seen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The new side: the one that is on trial.
    Canary,
    /// The side that was live before.
    Baseline,
}

impl Arm {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Arm::Canary => "canary",
            Arm::Baseline => "baseline",
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Arm::Canary => 0,
            Arm::Baseline => 1,
        }
    }
}

/// A check made known with [`Judge::add_check`](crate::Judge::add_check).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckId(pub(crate) u32);

/// A metric made known with [`Judge::add_metric`](crate::Judge::add_metric).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MetricId(pub(crate) u32);

/// Which way a metric gets worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Worse {
    /// More is worse: memory, queue length.
    Higher,
    /// Less is worse: orders per minute.
    Lower,
}

/// What is known of a metric's values beforehand, and so what of it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Nothing: how often the canary's value is the worse one.
    #[default]
    Any,
    /// No value lies outside of these: the mean of the difference.
    Bounded {
        /// The smallest value there can be.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// The noise of one reading is sub-Gaussian of this scale: the mean of the difference.
    SubGaussian {
        /// The standard deviation of a normal distribution with tails at least as heavy.
        sigma: f64,
    },
}

impl Shape {
    /// What can't be is nothing known.
    pub(crate) fn checked(self) -> Self {
        let possible = match self {
            Shape::Any => true,
            Shape::Bounded { min, max } => min.is_finite() && max.is_finite() && min < max,
            Shape::SubGaussian { sigma } => sigma.is_finite() && sigma > 0.0,
        };
        if possible { self } else { Shape::Any }
    }
}

/// How one scheduled check went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    /// Checked and good.
    Pass,
    /// Checked and degraded: passes, with a warning.
    Warn(String),
    /// Checked and bad.
    Fail(String),
    /// Refused, timed out or answered 503: before the first pass it means *starting*, later it is
    /// a failure.
    Starting(String),
    /// Could not be checked: neither good nor bad, and the data get older.
    Unreachable(String),
}

/// The result of one scheduled check, with what its body said.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckSample {
    /// How it went.
    pub outcome: CheckOutcome,
    /// How long the check took.
    pub latency_ms: f64,
    /// The error rate that the body gave, in percent.
    pub error_rate: Option<f64>,
    /// The availability that the body gave, in percent.
    pub availability: Option<f64>,
    /// The response time that the body gave.
    pub response_time_ms: Option<f64>,
    /// Set if another version answers than the one deployed: a sentence that names both.
    pub version_mismatch: Option<String>,
}

impl CheckSample {
    /// A sample with nothing in its body.
    pub fn new(outcome: CheckOutcome, latency_ms: f64) -> Self {
        CheckSample {
            outcome,
            latency_ms,
            error_rate: None,
            availability: None,
            response_time_ms: None,
            version_mismatch: None,
        }
    }

    /// A plain pass.
    pub fn pass(latency_ms: f64) -> Self {
        CheckSample::new(CheckOutcome::Pass, latency_ms)
    }
}

/// One thing seen. Times are milliseconds on one clock of the caller's; they should not go back,
/// and where they do the judge goes on with the latest it has seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// The share of requests that the router gives to the canary from now on (0 to 1).
    Weight {
        /// When it came into force.
        at_ms: i64,
        /// Fraction of requests, or of sessions under sticky routing.
        canary_share: f64,
    },
    /// Requests that ended since the last such event (a batch: differences of counters).
    Requests {
        /// When the counters were read. The two arms of one reading carry the same time.
        at_ms: i64,
        /// The side that served them.
        arm: Arm,
        /// How many went well.
        ok: u64,
        /// How many failed: 5xx or no answer.
        failed: u64,
        /// Latencies as (microseconds, count).
        latency: &'a [(u64, u64)],
    },
    /// One request of a session that stays on its side (sticky routing). Each session counts once
    /// per kind of event, and comparisons leave the worst session of the canary out, so that one abusive
    /// client takes nothing back (see `sequential::sessions`). The share in force is then that of
    /// sessions. Show the requests of both sides this way or as [`Requests`](Event::Requests), never both.
    Session {
        /// When it ended.
        at_ms: i64,
        /// The side that served it.
        arm: Arm,
        /// Any number that stands for the session.
        session: u64,
        /// Whether it went well.
        ok: bool,
        /// How long it took, if known.
        latency_us: Option<u64>,
    },
    /// Requests that ended while the split changed, so that nobody can tell by which share they were drawn; or
    /// those of a reading of which a part was lost. Limits and traffic count them, comparisons do not. Show those
    /// of both sides this way, as one reading; what waits for its other side is given up with them.
    Unattributed {
        /// When the counters were read.
        at_ms: i64,
        /// The side that served them.
        arm: Arm,
        /// How many went well.
        ok: u64,
        /// How many failed.
        failed: u64,
        /// Latencies as (microseconds, count).
        latency: &'a [(u64, u64)],
    },
    /// This side's counters could not be read. Until its next [`Requests`](Event::Requests), which
    /// covers the gap, the other side's requests wait for it: a gap is neither health nor failure.
    Unread {
        /// When that was tried.
        at_ms: i64,
        /// The side.
        arm: Arm,
    },
    /// The part of those requests that went to one route, so that one bad endpoint of many is seen.
    /// Needs [`Budget::routes`](crate::Budget).
    Route {
        /// When the counters were read; as the `Requests` of the same reading.
        at_ms: i64,
        /// The side that served them.
        arm: Arm,
        /// Any number that stands for the route, the same on both sides.
        route: u64,
        /// How many went well.
        ok: u64,
        /// How many failed.
        failed: u64,
    },
    /// What was usual before, for times without a baseline beside the new side: requests of the
    /// service's recorded past, best of the same hour of day. May be given anew as time goes on.
    /// Needs [`Budget::history`](crate::Budget).
    Reference {
        /// From when on it is the reference.
        at_ms: i64,
        /// Requests recorded.
        total: u64,
        /// Those that failed.
        failed: u64,
    },
    /// One reading of a metric made known with [`Judge::add_metric`](crate::Judge::add_metric).
    /// A gap on either side is left out.
    Metric {
        /// When it was read.
        at_ms: i64,
        /// Which metric.
        metric: MetricId,
        /// The canary's value.
        canary: Option<f64>,
        /// The baseline's value.
        baseline: Option<f64>,
    },
    /// Requests of our own, sent to both sides' own addresses in equal number; never counted as
    /// those of users.
    Synthetic {
        /// When they ended.
        at_ms: i64,
        /// How many of the canary's went well, and how many failed.
        canary: (u64, u64),
        /// The same of the baseline, where there is one.
        baseline: Option<(u64, u64)>,
    },
    /// One scheduled check's outcome.
    Check {
        /// When the check *started*.
        at_ms: i64,
        /// The side checked.
        arm: Arm,
        /// Which check.
        check: CheckId,
        /// What it found.
        sample: CheckSample,
    },
    /// A process exit was seen.
    Exited {
        /// When it was seen.
        at_ms: i64,
        /// The side it belongs to.
        arm: Arm,
        /// The service it belongs to.
        service: &'a str,
        /// The exit code, if it was not a signal.
        code: Option<i32>,
        /// How often its supervisor has restarted it so far; 0: it stays down.
        restarts: u32,
        /// No check of this service had passed yet.
        before_first_pass: bool,
    },
    /// A hold begins: what is counted per stage starts again.
    StageBegan {
        /// When.
        at_ms: i64,
    },
    /// Bake begins: as a stage, and the medium window drives verdicts too.
    BakeBegan {
        /// When.
        at_ms: i64,
    },
}

impl Event<'_> {
    /// When it happened.
    pub fn at_ms(&self) -> i64 {
        match *self {
            Event::Weight { at_ms, .. }
            | Event::Requests { at_ms, .. }
            | Event::Session { at_ms, .. }
            | Event::Unread { at_ms, .. }
            | Event::Unattributed { at_ms, .. }
            | Event::Route { at_ms, .. }
            | Event::Reference { at_ms, .. }
            | Event::Metric { at_ms, .. }
            | Event::Synthetic { at_ms, .. }
            | Event::Check { at_ms, .. }
            | Event::Exited { at_ms, .. }
            | Event::StageBegan { at_ms }
            | Event::BakeBegan { at_ms } => at_ms,
        }
    }
}
