//! What a check says.

use backout_core::ports::audit::AuditKind;

/// What kind of change was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// Something says other than what was written.
    Changed,
    /// Something was removed.
    Gone,
    /// Something stands there that was never written.
    Added,
    /// Something stands in another place.
    Moved,
    /// The log no longer leads to a checkpoint.
    Rewritten,
    /// The log is shorter than a checkpoint says.
    Shorter,
    /// What was kept of the log elsewhere can't be trusted.
    Checkpoint,
}

impl FindingKind {
    /// The word in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Gone => "gone",
            Self::Added => "added",
            Self::Moved => "moved",
            Self::Rewritten => "rewritten",
            Self::Shorter => "shorter",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// Where in the log, if it is known.
    pub leaf: Option<u64>,
    /// What it is about, for people.
    pub subject: String,
    /// A sentence.
    pub message: String,
}

/// A subject as people call it.
#[must_use]
pub fn name(kind: AuditKind, subject: &str) -> String {
    match kind {
        AuditKind::Ledger => format!("the identity of ledger {subject}"),
        AuditKind::Environment => format!("environment {subject}"),
        AuditKind::Plan => format!("the plan of {subject}"),
        AuditKind::Entry => match subject.rsplit_once('/') {
            Some((operation, sequence)) => format!("entry {sequence} of {operation}"),
            None => format!("entry {subject}"),
        },
        AuditKind::Close => format!("the end of {subject}"),
        AuditKind::Release => format!("release {subject}"),
        AuditKind::Deployment => match subject.rsplit_once('/') {
            Some((key, number)) => format!("deployment {key} #{number}"),
            None => format!("deployment {subject}"),
        },
        AuditKind::Rollback => format!("rollback {subject}"),
        AuditKind::Request => format!("request {subject}"),
        AuditKind::Answer => format!("the answer to request {subject}"),
        AuditKind::Note => format!("the remark `{subject}`"),
    }
}
