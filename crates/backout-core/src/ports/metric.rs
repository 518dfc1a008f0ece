//! Where figures beside health come from: a monitoring system, or the program's own text endpoint.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::probe::ProbeError;
use crate::ids::{ReleaseId, Unit, Version};

/// Whose figures are asked for.
#[derive(Debug, Clone)]
pub struct MetricSubject {
    /// The unit.
    pub unit: Unit,
    /// Its own address.
    pub address: Option<SocketAddr>,
    /// Its version.
    pub version: Version,
    /// Its release.
    pub release: ReleaseId,
    /// Its deployment.
    pub deployment: u64,
    /// For the whole reading.
    pub timeout: Duration,
}

/// One time series that an expression matched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Stands for the labels (without `le`): the same in every reading of this process.
    pub series: u64,
    /// Upper bound of a histogram's bucket, from its label `le`.
    pub bound: Option<f64>,
    /// The value; it may be no number at all.
    pub value: f64,
}

/// What one expression gave at one time.
pub type Points = Vec<Point>;

/// Reads figures.
#[async_trait]
pub trait MetricSource: Send + Sync {
    /// `prometheus` or `metrics`, with where it reads.
    fn name(&self) -> String;

    /// What each expression gives now, in order; nothing for one that matches nothing.
    ///
    /// # Errors
    /// *Could not check*: neither health nor failure.
    async fn read(
        &self,
        subject: &MetricSubject,
        expressions: &[String],
    ) -> Result<Vec<Points>, ProbeError>;

    /// What each expression gave at the end of each of the last hours, the oldest first. `None` where the
    /// source keeps no past.
    ///
    /// # Errors
    /// *Could not check*.
    async fn past(
        &self,
        subject: &MetricSubject,
        expressions: &[String],
        hours: u32,
    ) -> Result<Option<Vec<Vec<(Timestamp, Point)>>>, ProbeError> {
        let _ = (subject, expressions, hours);
        Ok(None)
    }
}
