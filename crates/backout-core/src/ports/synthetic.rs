//! Requests of our own.

use std::time::Duration;

use async_trait::async_trait;

use super::probe::ProbeSubject;

/// How such a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyntheticOutcome {
    /// Answered, and not by 5xx.
    Answered(Duration),
    /// 5xx, or no answer.
    Failed,
    /// It could not be sent: says nothing.
    NotSent,
}

/// Sends requests to a side's own address, where users are too few to judge by. They are marked, and are never
/// counted as those of users.
#[async_trait]
pub trait Synthetic: Send + Sync {
    /// Sends one.
    async fn request(&self, subject: &ProbeSubject) -> SyntheticOutcome;
}
