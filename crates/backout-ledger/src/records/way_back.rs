//! Which writes belong to a way back: those may use the space that is reserved for it.

use backout_core::model::{OperationKind, Request, RequestKind};
use backout_core::ports::{Change, Commit, Holder};
use backout_core::saga::EntryKind;

/// Whoever claims in order to go back, to stop or to end what is there.
pub(super) fn is_of(holder: &Holder) -> bool {
    holder.goes_back
}

/// Whoever asks a living holder to go back.
pub(super) fn is_asked(request: &Request) -> bool {
    takes_back(request.kind)
}

fn takes_back(kind: RequestKind) -> bool {
    matches!(kind, RequestKind::Abort | RequestKind::TakeOver)
}

/// From these on it goes back: a verdict that fails, a person who was heard, or the rollback itself.
pub(super) fn begins(commits: &[Commit]) -> bool {
    let entries = commits.iter().flat_map(|commit| &commit.entries);
    let mut changes = commits.iter().flat_map(|commit| &commit.changes);
    let opens = |change: &Change| matches!(change, Change::Open(plan) if plan.kind == OperationKind::Rollback);
    changes.any(opens)
        || entries.into_iter().any(|entry| match &entry.kind {
            EntryKind::Failing { .. } => true,
            EntryKind::Requested { kind, .. } => takes_back(*kind),
            _ => false,
        })
}
