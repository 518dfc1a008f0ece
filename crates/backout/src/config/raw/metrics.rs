//! `health.prometheus`, `health.metrics` and what they are asked for.

use schemars::JsonSchema;
use serde::Deserialize;

use super::written::{At, Entries};
use crate::config::scalar::{Duration, Quantity, Rate, Ratio};

/// Metrics from a Prometheus.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawPrometheus {
    /// Its address, such as `http://127.0.0.1:9090`.
    pub url: Option<At<String>>,
    /// From one reading to the next. Default: 15s.
    pub interval: Option<At<Duration>>,
    /// One reading of one side. Default: 10s.
    pub timeout: Option<At<Duration>>,
    /// Samples older than this are no answer. Default: 2m.
    pub max_age: Option<At<Duration>>,
    /// A name and the name of the secret that holds the password.
    pub basic_auth: Option<At<RawBasicAuth>>,
    /// The name of the secret that holds a token.
    pub bearer_token: Option<At<String>>,
    /// A file with further certificates that are trusted, in PEM.
    pub ca: Option<At<String>>,
    /// Requests of the service, where no built-in router counts them.
    pub requests: Option<At<RawRequests>>,
    /// What is compared and limited, by name.
    pub series: Option<Entries<RawSeries>>,
}

/// Metrics from text that each side gives itself.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawMetrics {
    /// Each side's own address, such as `http://127.0.0.1:{port}/metrics`.
    pub url: Option<At<String>>,
    /// A program and its arguments that print the text instead: lines of a name and a number.
    pub command: Option<At<Vec<String>>>,
    /// From one reading to the next. Default: 5s.
    pub interval: Option<At<Duration>>,
    /// One reading of one side. Default: 10s.
    pub timeout: Option<At<Duration>>,
    /// A file with further certificates that are trusted, in PEM.
    pub ca: Option<At<String>>,
    /// Requests of the service, where no built-in router counts them.
    pub requests: Option<At<RawRequests>>,
    /// What is compared and limited, by name.
    pub series: Option<Entries<RawSeries>>,
}

/// A name and the name of the secret that holds the password.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawBasicAuth {
    /// Who asks.
    pub username: Option<String>,
    /// The name of the secret that holds the password.
    pub password: Option<At<String>>,
}

/// Requests of the service: judged as those that a router counts.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawRequests {
    /// Counters of all requests.
    pub total: Option<At<String>>,
    /// Counters of the failed ones among them.
    pub failed: Option<At<String>>,
}

/// One metric: exactly one of `value`, `rate`, `ratio` and `latency`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawSeries {
    /// A number as it stands: memory, queue length.
    pub value: Option<At<String>>,
    /// Counters whose increase per second is meant.
    pub rate: Option<At<String>>,
    /// Some counters' increase over that of others.
    pub ratio: Option<At<RawFraction>>,
    /// A quantile of a histogram, in seconds.
    pub latency: Option<At<RawLatency>>,
    /// Which way it gets worse. Default: higher.
    pub worse: Option<RawWorse>,
    /// Difference from the other side that is no reason. Default: 10%.
    pub tolerance: Option<Ratio>,
    /// The smallest and the largest value there can be. The means of the sides are compared then.
    pub bounds: Option<At<RawBounds>>,
    /// The scale of its noise from reading to reading (sub-Gaussian). The means of the sides are compared then.
    pub sigma: Option<At<Quantity>>,
    /// From here on it is a warning.
    pub warn: Option<At<Quantity>>,
    /// From here on it fails the release, unless the other side suffers too.
    pub fail: Option<At<Quantity>>,
}

/// Which way a metric gets worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawWorse {
    /// More is worse.
    Higher,
    /// Less is worse.
    Lower,
}

/// Between what all values lie.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawBounds {
    /// The smallest value there can be.
    pub min: Option<Quantity>,
    /// The largest.
    pub max: Option<Quantity>,
}

/// Some counters' increase over that of others.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawFraction {
    /// The bad ones.
    pub bad: Option<At<String>>,
    /// All of them.
    pub total: Option<At<String>>,
}

/// A quantile of a histogram.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLatency {
    /// Its buckets, in seconds, with the label `le`.
    pub histogram: Option<At<String>>,
    /// Between 0 and 1. Default: 0.95.
    pub quantile: Option<At<Ratio>>,
}

/// Requests of our own to each side's own address, where users are few.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawSynthetic {
    /// What is got, such as `/ping`; it must change nothing.
    pub path: Option<At<String>>,
    /// How many, such as `2/s` or `30/m`. Default: 1/s.
    pub rate: Option<At<Rate>>,
}
