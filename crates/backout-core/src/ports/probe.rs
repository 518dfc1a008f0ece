//! What checks health.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::ids::{ReleaseId, Unit, Version};

/// What is checked, and where.
#[derive(Debug, Clone)]
pub struct ProbeSubject {
    /// The unit.
    pub unit: Unit,
    /// Its own address.
    pub address: Option<SocketAddr>,
    /// The version that should answer.
    pub version: Version,
    /// The release that should answer.
    pub release: ReleaseId,
    /// The whole check, retries included.
    pub timeout: Duration,
    /// Tries after the first.
    pub retries: u32,
}

/// Result of a check that could be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SampleOutcome {
    /// Good.
    Pass,
    /// Good, but (`degraded`).
    Warn(String),
    /// Refused, timed out or 503: may still be starting; a failure once it has passed before.
    NotReady(String),
    /// Bad.
    Fail(String),
}

/// One check's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When the check began.
    pub started_at: Timestamp,
    /// Result.
    pub outcome: SampleOutcome,
    /// Time to the answer, milliseconds.
    pub latency_ms: f64,
    /// From the body, percent.
    pub error_rate: Option<f64>,
    /// From the body, percent.
    pub availability: Option<f64>,
    /// From the body, milliseconds.
    pub response_time_ms: Option<f64>,
    /// From the body.
    pub version: Option<String>,
    /// From the body; older than two intervals (and 30 s of skew) is missing data.
    pub timestamp: Option<Timestamp>,
}

/// The check could not be made: not health and not failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProbeError(pub String);

/// Checks health.
#[async_trait]
pub trait Probe: Send + Sync {
    /// `http`, `tcp`, `exec`, `process`.
    fn name(&self) -> &str;

    /// Makes one check.
    ///
    /// # Errors
    /// *Could not check*; *checked and bad* is a sample.
    async fn check(&self, subject: &ProbeSubject) -> Result<Sample, ProbeError>;
}
