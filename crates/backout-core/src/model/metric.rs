//! Metrics beside health checks: what is read, and when it is too bad. Always from today's file.

use backout_judge::{Shape, Worse};

/// How a figure is made from what a source gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Measure {
    /// As it stands: memory, queue length. Several series are added up.
    Value(String),
    /// Increase of counters per second.
    Rate(String),
    /// Increase of some counters over the increase of others, 0 to 1.
    Ratio {
        /// The bad ones.
        bad: String,
        /// All of them.
        total: String,
    },
    /// A quantile of what a histogram counted since the last reading, seconds.
    Latency {
        /// Its buckets.
        histogram: String,
        /// Between 0 and 1.
        quantile: f64,
    },
}

impl Measure {
    /// What has to be read for it, in order.
    #[must_use]
    pub fn expressions(&self) -> Vec<&str> {
        match self {
            Measure::Value(one) | Measure::Rate(one) | Measure::Latency { histogram: one, .. } => {
                vec![one]
            }
            Measure::Ratio { bad, total } => vec![bad, total],
        }
    }
}

/// One metric.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSpec {
    /// For people.
    pub name: String,
    /// How it is made.
    pub measure: Measure,
    /// Which way it gets worse.
    pub worse: Worse,
    /// Relative difference between the sides that is no reason.
    pub tolerance: f64,
    /// What is known of its values, and so how the sides are compared.
    pub shape: Shape,
    /// From here on it is a warning.
    pub warn: Option<f64>,
    /// From here on it fails the release, unless the other side suffers too.
    pub fail: Option<f64>,
}

/// Requests of the service, where no router of ours counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestsSpec {
    /// Counters of all.
    pub total: String,
    /// Counters of those that failed.
    pub failed: String,
}

/// What one source is asked for, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsSpec {
    /// Metrics, at most 64 in all.
    pub series: Vec<SeriesSpec>,
    /// The service's requests.
    pub requests: Option<RequestsSpec>,
    /// From one reading to the next, milliseconds.
    pub interval_ms: u64,
    /// One reading of one side, milliseconds.
    pub timeout_ms: u64,
}
