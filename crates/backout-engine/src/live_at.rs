//! What was live at a time: the journals say when each deployment got all users.

use backout_core::model::{Deployment, DeploymentKind, DeploymentStatus};
use backout_core::ports::LedgerError;
use backout_core::saga::EntryKind;
use jiff::Timestamp;

use crate::context::Context;

/// The deployment that was live then; none before the first. `history` is newest first.
pub(crate) async fn live_at<'a>(
    cx: &Context,
    history: &'a [Deployment],
    at: Timestamp,
) -> Result<Option<&'a Deployment>, LedgerError> {
    // One operation works at a time, so that they became live in the order of their numbers.
    for row in history.iter().filter(|row| row.started_at <= at) {
        if live_since(cx, row).await?.is_some_and(|since| since <= at) {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// When a deployment got all users: a deploy that failed in its stages never did.
pub(crate) async fn live_since(
    cx: &Context,
    row: &Deployment,
) -> Result<Option<Timestamp>, LedgerError> {
    if row.kind == DeploymentKind::Adopt {
        return Ok(Some(row.completed_at.unwrap_or(row.started_at)));
    }
    match by_journal(cx, row).await {
        Ok(Known::Since(since)) => Ok(since),
        // What is quarantined keeps no other one from being found.
        Ok(Known::Nothing) | Err(LedgerError::CorruptRecord { .. }) => Ok(by_record(row)),
        Err(error) => Err(error),
    }
}

enum Known {
    Since(Option<Timestamp>),
    /// The ledger has no journal that says so.
    Nothing,
}

async fn by_journal(cx: &Context, row: &Deployment) -> Result<Known, LedgerError> {
    let Some(plan) = cx.ledger.operation(&row.operation).await? else { return Ok(Known::Nothing) };
    let Some(live_at) = plan.live_at else { return Ok(Known::Nothing) };
    let entries = cx.ledger.entries(&row.operation).await?;
    let done =
        |kind: &EntryKind| matches!(kind, EntryKind::StepDone { step, .. } if *step == live_at);
    Ok(Known::Since(entries.iter().find(|entry| done(&entry.kind)).map(|entry| entry.at)))
}

/// Without a journal that can be read: as soon as its record is sure of it.
fn by_record(row: &Deployment) -> Option<Timestamp> {
    let was_live = matches!(
        row.status,
        DeploymentStatus::Stable | DeploymentStatus::Superseded | DeploymentStatus::Baking
    );
    row.stable_at.or_else(|| row.completed_at.filter(|_| was_live))
}
