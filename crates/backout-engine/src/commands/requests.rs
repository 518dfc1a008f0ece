//! Requests: rows that whoever holds the operation polls and consumes in a journal entry.

use backout_core::ids::OperationId;
use backout_core::model::{OperationKind, Request, RequestKind, Trigger};
use backout_core::plan::{Action, WatchMode};
use backout_core::ports::Lease;
use backout_core::saga::{EntryKind, Failure};

use crate::acted;
use crate::context::Context;
use crate::events::Event;
use crate::journal::{Journal, JournalError};

/// Polls for a person's take-over while an effect hangs; ends when there is one and it had some seconds.
pub(crate) async fn take_over_wanted(cx: &Context, operation: &OperationId) {
    const PERIOD: std::time::Duration = std::time::Duration::from_millis(500);
    const PATIENCE: u32 = 6;
    let mut seen = 0;
    loop {
        tokio::time::sleep(PERIOD).await;
        let pending = cx.ledger.pending_requests(operation).await.unwrap_or_default();
        if pending.iter().any(|request| request.kind == RequestKind::TakeOver) {
            seen += 1;
        }
        if seen > PATIENCE {
            return;
        }
    }
}

/// Consumes what was asked. Returns whether anything was accepted.
pub(crate) async fn consume_requests(
    cx: &Context,
    journal: &mut Journal,
    lease: &Lease,
    mode: Option<&WatchMode>,
) -> Result<bool, JournalError> {
    let pending = match cx.ledger.pending_requests(&journal.plan.operation).await {
        Ok(pending) => pending,
        // Requests wait; the lease decides whether we may go on.
        Err(_) => return Ok(false),
    };
    let mut accepted_any = false;
    for request in pending {
        // A hold or bake that is about to begin, or is taken up by another, is one already.
        let current = journal.state.current().map(|step| &journal.plan.steps[step].action);
        let about_to_begin = match current {
            Some(Action::Watch { mode, .. }) => Some(mode),
            _ => None,
        };
        let (accepted, message) = verdict(journal, &request, mode.or(about_to_begin));
        let now = cx.now();
        if accepted {
            accepted_any = true;
            let kind = EntryKind::Requested {
                request: request.id.clone(),
                kind: request.kind,
                by: request.requested_by.clone(),
            };
            journal.note(now, lease.epoch, kind)?;
            if request.kind == RequestKind::Abort {
                abort(cx, journal, lease, &request).await?;
            }
            cx.events.note(format!(
                "{} asked to {}: {message}",
                request.requested_by,
                request.kind.as_str()
            ));
        }
        journal.answer(request.id, accepted, &message, now);
        journal.flush(cx.ledger.as_ref(), lease).await?;
    }
    Ok(accepted_any)
}

async fn abort(
    cx: &Context,
    journal: &mut Journal,
    lease: &Lease,
    request: &Request,
) -> Result<(), JournalError> {
    let reason = request.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let aborted = Failure {
        trigger: Trigger::Manual,
        evidence: vec![format!("aborted by {}{reason}", request.requested_by)],
        release_is_bad: false,
        by_router: false,
    };
    // The router may have found out a moment before.
    let failure = acted::seen(cx).await.unwrap_or(aborted);
    cx.events.send(Event::Failing {
        trigger: failure.trigger,
        evidence: failure.evidence.clone(),
        at_us: cx.now().as_microsecond(),
    });
    Ok(journal.note(cx.now(), lease.epoch, EntryKind::Failing { failure })?)
}

/// Whether a request fits what goes on now, and the words of the answer.
fn verdict(journal: &Journal, request: &Request, mode: Option<&WatchMode>) -> (bool, String) {
    let yes = |message: &str| (true, message.to_owned());
    let no = |message: String| (false, message);
    let step =
        journal.state.current().map_or("its end", |step| journal.plan.steps[step].name.as_str());
    let deploying = journal.plan.kind == OperationKind::Deploy;
    match (request.kind, mode) {
        (RequestKind::Promote, Some(WatchMode::Hold { .. })) => yes("this hold ends"),
        (RequestKind::PromoteFull, _) if deploying && !is_live(journal) => yes("on to 100 %"),
        (RequestKind::Promote | RequestKind::PromoteFull, _) => {
            no(format!("there is no hold to end, it is at {step}"))
        }
        (RequestKind::Pause, Some(WatchMode::Hold { .. } | WatchMode::Bake { .. })) => {
            yes("the clock stands")
        }
        (RequestKind::Resume, _) if journal.state.paused => yes("the clock runs"),
        (RequestKind::Pause, _) => no(format!("it can't be paused at {step}")),
        (RequestKind::Resume, _) => no("it is not paused".to_owned()),
        (RequestKind::Retry, _) => no(format!("nothing is stuck, it is at {step}")),
        (RequestKind::Abort, _) if deploying => yes("it is taken back"),
        (RequestKind::Abort, _) => {
            no("only a deploy can be aborted; this is a way back already".to_owned())
        }
        (RequestKind::TakeOver, _) => yes("it is yours"),
        (RequestKind::Supersede, Some(WatchMode::Bake { .. } | WatchMode::Keep { .. })) => {
            yes("it is superseded")
        }
        (RequestKind::Supersede, _) => no(format!("it is not baking, it is at {step}")),
        (RequestKind::HandOver | RequestKind::Deploy, _) => {
            no("that is asked of nobody who works".to_owned())
        }
    }
}

fn is_live(journal: &Journal) -> bool {
    journal.plan.live_at.is_some_and(|step| journal.state.steps[step].is_finished())
}
