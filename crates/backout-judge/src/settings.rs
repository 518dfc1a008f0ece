//! What the judge is told before it starts. Plain data; `Default` is what SPEC §3 gives.

use serde::{Deserialize, Serialize};

/// A limit with a warning and a failing level, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// From here on it is a warning.
    pub warn: f64,
    /// From here on it is a failure.
    pub fail: f64,
}

/// The fixed thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Failed requests, in percent of all.
    pub error_rate_percent: Limit,
    /// Passed checks, in percent of all; here lower is worse.
    pub availability_percent: Limit,
    /// The 95th percentile of response times, and the time of a single check.
    pub response_time_ms: Limit,
}

/// How many failing checks in a row fail a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsecutiveFailures {
    /// This many failing scheduled checks, none passing in between …
    pub count: u32,
    /// … the first and the last at most this far apart (inclusive).
    pub within_ms: i64,
}

/// Everything the judge can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The fixed thresholds.
    pub thresholds: Thresholds,
    /// Ratios over fewer samples than this are not judged.
    pub minimum_samples: u32,
    /// A ratio made of fewer failures than this fails nothing: with 20 samples a single failed
    /// request is already 5 %, and a release within its target would be taken back.
    pub minimum_failures: u32,
    /// Failing checks in a row.
    pub consecutive_failures: ConsecutiveFailures,
    /// Passing checks in a row that make a side healthy.
    pub consecutive_passes: u32,
    /// Process exits that fail a release: before the first passing check any, later restarted ones.
    pub startup_failures: u32,
    /// A side whose checks have not passed once after this time failed to start.
    pub startup_timeout_ms: i64,
    /// The window that drives verdicts.
    pub window_short_ms: i64,
    /// The window that drives verdicts too while baking.
    pub window_medium_ms: i64,
    /// The window that only ever warns.
    pub window_long_ms: i64,
    /// The budget: the highest probability with which comparisons may take back a harmless
    /// release, over all metrics and the whole watch.
    pub false_rollback_probability: f64,
    /// An error rate (fraction) of the new side up to which errors are no reason, whatever the
    /// baseline shows. 0 switches the allowance off.
    pub harmless_error_rate: f64,
    /// A relative slowdown (fraction) that is no reason. Where it is above 0, neither is one below
    /// `harmless_latency_floor_us`.
    pub harmless_latency_increase: f64,
    /// The smallest slowdown that counts while `harmless_latency_increase` is above 0.
    pub harmless_latency_floor_us: u64,
    /// Relative increase of the error rate (fraction) over the baseline's that is no reason.
    pub harmless_error_increase: f64,
    /// Comparisons are muted for this long after the new side's first request.
    pub warm_up_ms: i64,
    /// Comparisons of latency are muted for this long after the new side's first request.
    pub latency_warm_up_ms: i64,
    /// How long the watch is expected to last; restarts spread their budget over it.
    pub watch_ms: i64,
    /// Sessions stay on their side. A canary without requests is then not failed for it: one busy
    /// client may be all the traffic there is.
    pub sticky_sessions: bool,
    /// Whether errors of requests are compared.
    pub compare_errors: bool,
    /// Whether latencies of requests are compared.
    pub compare_latency: bool,
    /// Where the budget goes, and whether late onset is looked for.
    pub budget: Budget,
}

/// How the one budget is divided. The parts of one level are averaged, so the sum of what is
/// spent never exceeds `false_rollback_probability`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Part of the budget for errors when latency is compared too; the rest is for latency.
    pub errors: f64,
    /// Part of each metric's budget for a fault that was there from the start; the rest is for
    /// faults that begin later. 1 switches restarts off.
    pub from_start: f64,
    /// Part of the errors' budget for single routes. Set it where [`Event::Route`](crate::Event)
    /// is fed.
    pub routes: f64,
    /// Part of the errors' budget for the comparison with the past, where there is no baseline:
    /// with [`Event::Reference`](crate::Event), else with the baseline's part of this watch.
    pub history: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            error_rate_percent: Limit { warn: 3.0, fail: 5.0 },
            availability_percent: Limit { warn: 99.5, fail: 99.0 },
            response_time_ms: Limit { warn: 1500.0, fail: 2000.0 },
        }
    }
}

impl Default for ConsecutiveFailures {
    fn default() -> Self {
        ConsecutiveFailures { count: 3, within_ms: 60_000 }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget { errors: 0.85, from_start: 0.66, routes: 0.0, history: 0.05 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            thresholds: Thresholds::default(),
            minimum_samples: 20,
            minimum_failures: 5,
            consecutive_failures: ConsecutiveFailures::default(),
            consecutive_passes: 3,
            startup_failures: 3,
            startup_timeout_ms: 60_000,
            window_short_ms: 5 * 60_000,
            window_medium_ms: 30 * 60_000,
            window_long_ms: 24 * 3_600_000,
            false_rollback_probability: 0.01,
            harmless_error_rate: 0.001,
            harmless_latency_increase: 0.1,
            harmless_latency_floor_us: 1_000,
            harmless_error_increase: 0.0,
            warm_up_ms: 0,
            latency_warm_up_ms: 30_000,
            watch_ms: 3 * 3_600_000,
            sticky_sessions: false,
            compare_errors: true,
            compare_latency: true,
            budget: Budget::default(),
        }
    }
}
