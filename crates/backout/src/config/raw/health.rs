//! `health`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::metrics::{RawMetrics, RawPrometheus, RawSynthetic};
use super::written::At;
use crate::config::scalar::{Duration, Percent, Ratio};

/// What is checked, and how it is judged.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawHealth {
    /// A URL answers well.
    pub http: Option<At<RawHttp>>,
    /// A port accepts connections.
    pub tcp: Option<At<RawTcp>>,
    /// A command exits 0.
    pub exec: Option<At<RawExec>>,
    /// Metrics from a Prometheus.
    pub prometheus: Option<At<RawPrometheus>>,
    /// Metrics from text that each side gives itself.
    pub metrics: Option<At<RawMetrics>>,
    /// The schedule while a release goes out and bakes; no retries then.
    pub during_rollout: Option<RawDuringRollout>,
    /// Fixed limits.
    pub thresholds: RawThresholds,
    /// Failing checks in a row that fail a release. Default: 3 within 60s.
    pub consecutive_failures: RawConsecutiveFailures,
    /// Passing checks in a row that make a side healthy. Default: 3.
    pub consecutive_passes: Option<At<u32>>,
    /// Exits before the first passing check that fail a release. Default: 3.
    pub startup_failures: Option<At<u32>>,
    /// Past it a release whose checks never passed has failed to start. Default: 60s.
    pub startup_timeout: Option<At<Duration>>,
    /// The spans over which checks and requests are judged.
    pub windows: RawWindows,
    /// How a canary is compared with the release beside it.
    pub judge: RawJudge,
}

/// What is checked for one service.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawServiceHealth {
    /// A URL answers well.
    pub http: Option<At<RawHttp>>,
    /// A port accepts connections.
    pub tcp: Option<At<RawTcp>>,
    /// A command exits 0.
    pub exec: Option<At<RawExec>>,
    /// Metrics from a Prometheus.
    pub prometheus: Option<At<RawPrometheus>>,
    /// Metrics from text that each side gives itself.
    pub metrics: Option<At<RawMetrics>>,
    /// The schedule while a release goes out and bakes; no retries then.
    pub during_rollout: Option<RawDuringRollout>,
}

/// The schedule while a release goes out and bakes.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawDuringRollout {
    /// From one check to the next. Default: 1s.
    pub interval: Option<At<Duration>>,
    /// Wait before the first check. Default: 0s.
    pub initial_delay: Option<At<Duration>>,
}

macro_rules! probe {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            /// Steady state: from one check to the next. Default: 30s.
            pub interval: Option<At<Duration>>,
            /// One check, retries included. Default: 10s.
            pub timeout: Option<At<Duration>>,
            /// Steady state: tries after the first. Default: 3.
            pub retries: Option<At<u32>>,
            /// Steady state: wait before the first check. Default: 30s.
            pub initial_delay: Option<At<Duration>>,
        }
    };
}

probe!(/** A URL that is asked. */ RawHttp {
    /** The address, such as `http://127.0.0.1:{port}/health`. */
    url: Option<At<String>>,
    /** Fields that the JSON body must have. Default: none. */
    required_fields: Option<Vec<String>>,
});
probe!(/** A port that is connected to. */ RawTcp {
    /** Host and port, such as `127.0.0.1:{port}`. */
    address: Option<At<String>>,
});
probe!(/** A command that is run. */ RawExec {
    /** Program and arguments, as a list. */
    command: Option<At<Vec<String>>>,
});

/// Fixed limits, inclusive.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawThresholds {
    /// Failed requests. Default: warn 3%, fail 5%.
    pub error_rate: RawLimit<Percent>,
    /// Passed checks; lower is worse. Default: warn 99.5%, fail 99%.
    pub availability: RawLimit<Percent>,
    /// Response times. Default: warn 1500ms, fail 2s.
    pub response_time: RawLimit<Duration>,
    /// Ratios over fewer samples are not judged. Default: 20.
    pub minimum_samples: Option<At<u32>>,
}

/// A limit.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLimit<T> {
    /// From here on it is a warning.
    pub warn: Option<At<T>>,
    /// From here on it is a failure.
    pub fail: Option<At<T>>,
}

impl<T> Default for RawLimit<T> {
    fn default() -> Self {
        Self { warn: None, fail: None }
    }
}

/// Failing checks in a row.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawConsecutiveFailures {
    /// This many …
    pub count: Option<At<u32>>,
    /// … at most this far apart.
    pub within: Option<At<Duration>>,
}

/// The spans over which checks and requests are judged.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawWindows {
    /// Drives verdicts. Default: 5m.
    pub short: Option<At<Duration>>,
    /// Drives verdicts while baking. Default: 30m.
    pub medium: Option<At<Duration>>,
    /// Only warns. Default: 24h.
    pub long: Option<At<Duration>>,
}

/// How a canary is compared with the release beside it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawJudge {
    /// The highest probability with which a harmless release is taken back. Default: 0.01.
    pub false_rollback_probability: Option<At<Ratio>>,
    /// An error rate up to which errors are no reason. Default: 0.1%.
    pub harmless_error_rate: Option<At<Ratio>>,
    /// A slowdown that is no reason. Default: 10%.
    pub harmless_latency_increase: Option<At<Ratio>>,
    /// Comparisons are muted for this long. Default: 0s.
    pub warm_up: Option<Duration>,
    /// Comparisons of latency are muted for this long. Default: 30s.
    pub latency_warm_up: Option<Duration>,
    /// Requests of our own, where users are few. Default: none.
    pub synthetic: Option<At<RawSynthetic>>,
}
