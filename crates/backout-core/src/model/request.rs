//! What others ask of whoever holds an operation.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{EnvironmentKey, OperationId, RequestId};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// End this hold.
    Promote,
    /// Go to 100 % at once.
    PromoteFull,
    /// Stop the hold clock.
    Pause,
    /// Let it run again.
    Resume,
    /// Repeat the failed step of a stuck operation.
    Retry,
    /// Traffic to stable, new side stopped.
    Abort,
    /// A person's rollback wants the environment: yield at the next safe point.
    TakeOver,
    /// A newer deploy wants a baking environment: yield.
    Supersede,
}

impl RequestKind {
    /// The word in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RequestKind::Promote => "promote",
            RequestKind::PromoteFull => "promote_full",
            RequestKind::Pause => "pause",
            RequestKind::Resume => "resume",
            RequestKind::Retry => "retry",
            RequestKind::Abort => "abort",
            RequestKind::TakeOver => "take_over",
            RequestKind::Supersede => "supersede",
        }
    }
}

/// A request row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// App and environment.
    pub key: EnvironmentKey,
    /// The operation it is for.
    pub operation: OperationId,
    /// What is asked.
    pub kind: RequestKind,
    /// Who asks: `user@host:pid`.
    pub requested_by: String,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// What became of it.
    pub answer: Option<RequestAnswer>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestAnswer {
    /// Whether it was acted on.
    pub accepted: bool,
    /// For people.
    pub message: String,
    /// When.
    pub answered_at: Timestamp,
}
