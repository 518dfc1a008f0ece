//! What others ask of whoever holds an operation.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::policy::Strategy;
use super::release::Release;
use super::words::Surface;
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
    /// The holder leaves on purpose: whoever comes next goes on where it stopped.
    HandOver,
    /// A deploy that a controller begins; its operation does not exist yet.
    Deploy,
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
            RequestKind::HandOver => "hand_over",
            RequestKind::Deploy => "deploy",
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
    /// The operation it is for; of a [`RequestKind::Deploy`] the one that it begins.
    pub operation: OperationId,
    /// What is asked.
    pub kind: RequestKind,
    /// Who asks: `user@host:pid`.
    pub requested_by: String,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// What to deploy, of a [`RequestKind::Deploy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Box<DeployOrder>>,
    /// What became of it.
    pub answer: Option<RequestAnswer>,
}

/// A deploy as whoever asked for it resolved it: a controller adds nothing of its own but secret values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployOrder {
    /// What is shipped, variables filled in; its artifacts are kept already.
    pub release: Release,
    /// How.
    pub strategy: Strategy,
    /// The release's config files have to be put on disk first.
    pub restore_config: bool,
    /// Checks that whoever asked has lifted.
    #[serde(default)]
    pub overrides: Vec<String>,
    /// Through which door it came.
    pub surface: Surface,
    /// Digest of the other rules that were in force where it was asked for.
    pub policy: String,
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
    /// It was not acted on because somebody else is at work there.
    #[serde(default)]
    pub busy: bool,
}
