//! `promote`, `pause`, `resume`, `retry`, `abort` and `resolve`.

use std::collections::BTreeMap;
use std::time::Duration;

use backout_core::ids::{OperationId, RequestId};
use backout_core::model::{
    DeploymentFilter, DeploymentStatus, OperationKind, Request, RequestKind, RollbackStatus,
    Trigger,
};
use backout_core::ports::{Change, Commit, Lease, LedgerError};
use backout_core::saga::{Ending, EntryKind, Failure};
use tokio::time::Instant;

use super::claim::{claim, claim_error, give_back};
use super::recover::recover_open;
use super::{EngineError, Refused};
use crate::acted;
use crate::context::Context;
use crate::events::Event;
use crate::executor::{Executor, Outcome};
use crate::journal::{Journal, JournalError};

/// A living holder acts within a second; a hung one's lease ends within its term.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// What became of a request.
#[derive(Debug, Clone)]
pub enum ControlAnswer {
    /// Whoever holds the operation acted on it.
    Accepted(String),
    /// Nobody watched: this process did it.
    Ran(Box<Outcome>),
}

/// Asks whoever holds the running operation; without a living holder `promote`, `retry` and `abort` act themselves.
///
/// # Errors
/// Refused, with the holder's words.
pub async fn ask(
    cx: &Context,
    kind: RequestKind,
    reason: Option<String>,
) -> Result<ControlAnswer, EngineError> {
    let Some(open) = cx.ledger.open_operation(&cx.key).await? else {
        return Err(Refused::new(
            format!(
                "no rollout is under way in {}, so there is nothing to {}",
                cx.key,
                kind.as_str().replace('_', " ")
            ),
            "`backout status` shows what is live, `backout history` what happened",
        )
        .into());
    };
    let id = RequestId::from_entropy((cx.entropy)());
    let request = Request {
        id: id.clone(),
        key: cx.key.clone(),
        operation: open.operation.clone(),
        kind,
        requested_by: cx.holder.label.clone(),
        reason: reason.clone(),
        created_at: cx.now(),
        order: None,
        answer: None,
    };
    let alive = cx.ledger.lease(&cx.key).await?.is_some_and(|view| view.alive);
    if !alive && let Some(answer) = act_if_free(cx, kind, &reason).await? {
        return Ok(answer);
    }
    let operation = open.operation.clone();
    cx.ledger.submit(&request).await?;
    let began = Instant::now();
    loop {
        let open = cx.ledger.open_operation(&cx.key).await?;
        let gone = open.is_none_or(|plan| plan.operation != operation);
        // Read after the look at the operation: one that is gone has answered before it went.
        if let Some(answer) = cx.ledger.request(&id).await?.and_then(|request| request.answer) {
            if answer.accepted {
                return Ok(ControlAnswer::Accepted(answer.message));
            }
            return Err(Refused::new(answer.message, "`backout status` shows where it is").into());
        }
        if gone {
            let hint = "`backout status` shows what is live";
            return Err(Refused::new("it ended before it could answer", hint).into());
        }
        if !cx.ledger.lease(&cx.key).await?.is_some_and(|view| view.alive)
            && let Some(answer) = act_if_free(cx, kind, &reason).await?
        {
            return Ok(answer);
        }
        if began.elapsed() > ANSWER_LIMIT {
            let message = format!("no answer from the holder within {} s", ANSWER_LIMIT.as_secs());
            return Err(Refused::new(message, "`backout rollback` takes it over").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Acts, unless somebody (a controller) came first: then that one is asked.
async fn act_if_free(
    cx: &Context,
    kind: RequestKind,
    reason: &Option<String>,
) -> Result<Option<ControlAnswer>, EngineError> {
    match act(cx, kind, reason.clone()).await {
        Err(EngineError::Busy(_)) => Ok(None),
        other => other.map(Some),
    }
}

/// Nobody holds it: recover it with the request in it.
async fn act(
    cx: &Context,
    kind: RequestKind,
    reason: Option<String>,
) -> Result<ControlAnswer, EngineError> {
    if matches!(kind, RequestKind::Pause | RequestKind::Resume) {
        return Err(Refused::new(
            "nobody watches this operation, so there is no clock to stop",
            "`backout recover` finishes it, `backout rollback` takes it back",
        )
        .into());
    }
    let claimed = claim(cx).await?;
    let result = match claimed.open.clone() {
        None => {
            Err(Refused::new("it ended meanwhile", "`backout status` shows what is live").into())
        }
        Some(plan) => match Journal::load(cx.ledger.as_ref(), plan).await {
            Err(error) => Err(error.into()),
            Ok(journal) if kind == RequestKind::Abort => {
                abort(cx, &claimed.keeper, journal, reason).await
            }
            Ok(journal) => recover_open(cx, &claimed.keeper, journal).await,
        },
    };
    give_back(cx, claimed.keeper).await;
    result.map(|outcome| ControlAnswer::Ran(Box::new(outcome)))
}

async fn abort(
    cx: &Context,
    keeper: &crate::keeper::Keeper,
    mut journal: Journal,
    reason: Option<String>,
) -> Result<Outcome, EngineError> {
    if journal.plan.kind != OperationKind::Deploy {
        return Err(Refused::new(
            "only a deploy can be aborted",
            "`backout recover` finishes this one",
        )
        .into());
    }
    let epoch = keeper.lease.epoch;
    journal.note(cx.now(), epoch, EntryKind::Claimed { holder: cx.holder.label.clone() })?;
    cx.events.send(Event::Opened { plan: Box::new(journal.plan.clone()), resumed: true });
    let words = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let aborted = Failure {
        trigger: Trigger::Manual,
        evidence: vec![format!("aborted by {}{words}", cx.requested_by)],
        release_is_bad: false,
        by_router: false,
    };
    let failure = acted::seen(cx).await.unwrap_or(aborted);
    journal.note(cx.now(), epoch, EntryKind::Failing { failure })?;
    journal.flush(cx.ledger.as_ref(), &keeper.lease).await?;
    Ok(Box::pin(Executor::new(cx, keeper, journal).run()).await)
}

/// Ends an open operation as it is: a person has seen to the rest.
///
/// # Errors
/// Refused when nothing is open; busy while a living holder works on it.
pub async fn resolve(cx: &Context, reason: &str) -> Result<String, EngineError> {
    let claimed = match claim(cx).await {
        Err(EngineError::Ledger(error @ LedgerError::CorruptRecord { .. })) => {
            return end_unreadable(cx, reason, error).await;
        }
        other => other?,
    };
    let Some(plan) = claimed.open.clone() else {
        give_back(cx, claimed.keeper).await;
        return Err(Refused::new(
            "nothing is open that could be resolved",
            "`backout status` shows what is live",
        )
        .into());
    };
    let result = end_as_it_is(cx, &claimed.keeper.lease, plan, reason).await;
    give_back(cx, claimed.keeper).await;
    result
}

async fn end_as_it_is(
    cx: &Context,
    lease: &Lease,
    plan: backout_core::plan::Plan,
    reason: &str,
) -> Result<String, EngineError> {
    let operation = plan.operation.to_string();
    let mut journal = match Journal::load(cx.ledger.as_ref(), plan.clone()).await {
        Ok(journal) => journal,
        // A quarantined operation can still be closed: its journal is left as it is.
        Err(JournalError::Corrupt(_) | JournalError::Ledger(_)) => {
            Journal::quarantined(cx.ledger.as_ref(), plan).await?
        }
        Err(error) => return Err(error.into()),
    };
    let ending = Ending::Resolved { reason: reason.to_owned(), by: cx.requested_by.clone() };
    journal.close_as(cx.now(), lease.epoch, &ending, &BTreeMap::new())?;
    journal.flush(cx.ledger.as_ref(), lease).await?;
    Ok(operation)
}

/// Ends an operation whose plan can't be read: what it was about is told by the rows that name it.
async fn end_unreadable(
    cx: &Context,
    reason: &str,
    error: LedgerError,
) -> Result<String, EngineError> {
    let ledger = cx.ledger.as_ref();
    let unreadable = ledger.open_operation(&cx.key).await.is_err();
    let open = ledger.open_operation_id(&cx.key).await?.filter(|_| unreadable);
    let Some(operation) = open else { return Err(error.into()) };
    let lease = ledger.claim(&cx.key, &cx.holder).await.map_err(claim_error)?;
    let result = close_unreadable(cx, &lease, &operation, reason).await;
    // It ends with this process, at the latest.
    let _ = ledger.release(&lease).await;
    result.map(|()| operation.to_string())
}

async fn close_unreadable(
    cx: &Context,
    lease: &Lease,
    operation: &OperationId,
    reason: &str,
) -> Result<(), EngineError> {
    /// What is open is among the newest.
    const NEWEST: u32 = 10;
    let (ledger, now) = (cx.ledger.as_ref(), cx.now());
    let message = format!("resolved by hand, its plan could not be read: {reason}");
    let filter = DeploymentFilter { limit: Some(NEWEST), ..DeploymentFilter::default() };
    let mut changes = Vec::new();
    for mut row in ledger.deployments(&cx.key, &filter).await? {
        if row.operation != *operation {
            continue;
        }
        // A record that can't be read either stays as it is.
        if let Ok(Some(mut rollback)) = ledger.rollback_of(&cx.key, row.number).await {
            rollback.status = RollbackStatus::Failed;
            rollback.completed_at = Some(now);
            rollback.updated_at = now;
            rollback.error_message = Some(message.clone());
            changes.push(Change::Rollback(Box::new(rollback)));
        }
        row.status = DeploymentStatus::Failed;
        row.completed_at = Some(now);
        row.error_message = Some(message.clone());
        changes.push(Change::Deployment(Box::new(row)));
    }
    changes.push(Change::Close);
    let expected_sequence = ledger.journal_length(operation).await?;
    let commit =
        Commit { operation: operation.clone(), expected_sequence, entries: Vec::new(), changes };
    ledger.commit(lease, &[commit]).await.map_err(JournalError::from)?;
    Ok(())
}
