//! Claiming an environment: at once, after its holder yielded, or not.

use std::time::Duration;

use backout_core::ids::RequestId;
use backout_core::model::{EnvironmentRecord, Request, RequestKind};
use backout_core::plan::Plan;
use backout_core::ports::{ClaimError, LeaseView, LedgerError};
use backout_core::saga::EntryKind;
use tokio::time::Instant;

use super::look::Look;
use super::{EngineError, Refused};
use crate::acted;
use crate::context::Context;
use crate::journal::{self, Journal, JournalError};
use crate::keeper::Keeper;

/// How long a living holder is given to answer a request; a hung one's lease ends before.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between two tries.
const PERIOD: Duration = Duration::from_millis(100);

/// The environment is ours, with the operation that is open in it.
pub(crate) struct Claimed {
    pub keeper: Keeper,
    pub open: Option<Plan>,
}

impl Claimed {
    /// The operation that is taken over, if one is open, and the environment as it stands with it.
    pub async fn taken_over(
        &self,
        cx: &Context,
    ) -> Result<(Option<Journal>, EnvironmentRecord), EngineError> {
        let Some(plan) = self.open.clone() else {
            return Ok((None, journal::environment(cx.ledger.as_ref(), &cx.key).await?));
        };
        let mut journal = Journal::load(cx.ledger.as_ref(), plan).await?;
        let undecided = journal.plan.can_be_taken_back() && journal.state.failing.is_none();
        // A trip that nobody had heard of is a verdict on what is left, whoever takes it over.
        if let Some(failure) = acted::seen(cx).await.filter(|f| undecided && f.release_is_bad) {
            let epoch = self.keeper.lease.epoch;
            let noted = journal.note(cx.now(), epoch, EntryKind::Failing { failure });
            noted.map_err(JournalError::from)?;
        }
        let environment = journal.rows.environment.clone();
        Ok((Some(journal), environment))
    }
}

/// Claims, if nobody living holds it.
pub(crate) async fn claim(cx: &Context) -> Result<Claimed, EngineError> {
    claim_after(cx, None).await
}

/// As [`claim`]. A look that nobody claimed after has shown already that it is ours alone.
async fn claim_after(cx: &Context, look: Option<&Look>) -> Result<Claimed, EngineError> {
    let lease = cx.ledger.claim(&cx.key, &cx.holder).await.map_err(claim_error)?;
    crate::faults::boundary("after_claim", "claim");
    let keeper = Keeper::spawn(cx.ledger.clone(), cx.router.clone(), lease);
    let open = match cx.ledger.open_operation(&cx.key).await {
        Ok(open) => open,
        Err(error) => {
            give_back(cx, keeper).await;
            return Err(error.into());
        }
    };
    if !look.is_some_and(|look| look.is_next(keeper.lease.epoch))
        && let Err(error) = ours_alone(cx).await
    {
        give_back(cx, keeper).await;
        return Err(error);
    }
    Ok(Claimed { keeper, open })
}

/// Claims; a living holder is asked to yield first.
pub(crate) async fn claim_from_holder(
    cx: &Context,
    ask: RequestKind,
) -> Result<Claimed, EngineError> {
    claim_from_holder_after(cx, ask, None).await
}

/// As [`claim_from_holder`], after a look which found that it is ours alone.
pub(crate) async fn claim_from_holder_after(
    cx: &Context,
    ask: RequestKind,
    look: Option<&Look>,
) -> Result<Claimed, EngineError> {
    let began = Instant::now();
    let mut asked: Option<(RequestId, u64)> = None;
    loop {
        let busy = match claim_after(cx, look).await {
            Err(EngineError::Busy(view)) => view,
            other => return other,
        };
        if ask == RequestKind::TakeOver && busy.holder.person && cx.holder.person {
            return Err(EngineError::Busy(busy));
        }
        if began.elapsed() > PATIENCE {
            return Err(EngineError::Busy(busy));
        }
        match &asked {
            Some((id, epoch)) if *epoch == busy.epoch => refused_answer(cx, id, &busy).await?,
            // Whoever came in between was not asked yet.
            _ => asked = submit(cx, ask, &busy).await?.map(|id| (id, busy.epoch)),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn submit(
    cx: &Context,
    kind: RequestKind,
    busy: &LeaseView,
) -> Result<Option<RequestId>, LedgerError> {
    let Some(open) = cx.ledger.open_operation(&cx.key).await? else { return Ok(None) };
    let id = RequestId::from_entropy((cx.entropy)());
    let request = Request {
        id: id.clone(),
        key: cx.key.clone(),
        operation: open.operation,
        kind,
        requested_by: cx.holder.label.clone(),
        reason: None,
        created_at: cx.now(),
        order: None,
        answer: None,
    };
    cx.ledger.submit(&request).await?;
    cx.events.note(format!("asked {} to yield", busy.holder.label));
    Ok(Some(id))
}

async fn refused_answer(cx: &Context, id: &RequestId, busy: &LeaseView) -> Result<(), EngineError> {
    let answer = cx.ledger.request(id).await?.and_then(|request| request.answer);
    match answer {
        Some(answer) if !answer.accepted => Err(EngineError::Busy(Box::new(busy.clone()))),
        _ => Ok(()),
    }
}

pub(crate) fn claim_error(error: ClaimError) -> EngineError {
    match error {
        ClaimError::Busy(view) => EngineError::Busy(view),
        ClaimError::Ledger(error) => EngineError::Ledger(error),
    }
}

/// Gives the lease back, in order.
pub(crate) async fn give_back(cx: &Context, keeper: Keeper) {
    let lease = keeper.lease.clone();
    drop(keeper);
    if let Err(error) = cx.ledger.release(&lease).await {
        cx.events
            .note(format!("the lease ends by itself within {} s: {error}", lease.term_ms / 1000));
    }
}

/// Refuses an environment whose things carry another ledger's marker.
pub(crate) async fn ours_alone(cx: &Context) -> Result<(), EngineError> {
    let ours = cx.ledger.id().await?;
    let mut found = Vec::new();
    if let Some(router) = &cx.router
        && let Ok(Some(traffic)) = router.read().await
        && let Some(marker) = traffic.marker
    {
        found.push(("the proxy's route".to_owned(), marker.ledger));
    }
    for service in cx.services.keys() {
        for slot in backout_core::ids::Slot::BOTH {
            let units = crate::situation::units(cx, service, slot);
            for (unit, observed) in crate::situation::observe_each(cx, units, None).await {
                found.extend(observed.marker.map(|marker| (unit.to_string(), marker.ledger)));
            }
        }
    }
    match found.into_iter().find(|(_, ledger)| *ledger != ours) {
        None => Ok(()),
        Some((what, ledger)) => Err(Refused::new(
            format!(
                "{} is managed by another ledger: {what} carries {ledger}, this one is {ours}",
                cx.key
            ),
            "use the --state-dir of that ledger, or stop what it runs with its `backout down`",
        )
        .into()),
    }
}
