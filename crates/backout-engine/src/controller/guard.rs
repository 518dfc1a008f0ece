//! Goes on with what was interrupted, settles what nobody watches, and starts what should run.

use std::sync::atomic::Ordering;
use std::time::Duration;

use backout_core::ids::OperationId;
use backout_core::model::DeploymentStatus;
use backout_core::plan::Plan;
use backout_core::ports::LedgerError;
use backout_core::saga::{State, fold};
use tokio::time::Instant;

use super::tender::{PERIOD, Pauses, Tender};
use crate::commands::EngineError;
use crate::commands::claim::{claim, give_back};
use crate::commands::recover::{recover_open, settle_unwatched_bake, start_what_should_run};
use crate::context::Context;
use crate::executor::Outcome;
use crate::journal::{self, Journal, JournalError};

/// Whoever asked for an environment is given this long to take it.
const COURTESY: Duration = Duration::from_secs(5);
/// A bake that is over and not healthy is looked at again after this time.
const SETTLE_PERIOD: Duration = Duration::from_secs(30);
/// What does not stay up is started this often in a row, and then left to a person.
const STARTS: u32 = 4;
/// From one start to the next at least; doubled each time.
const START_PERIOD: Duration = Duration::from_secs(20);
/// What one guard remembers from one look to the next.
#[derive(Default)]
struct Memory {
    /// Somebody asked for this operation, and the last holder yielded.
    yielded: Option<(OperationId, Instant)>,
    settle_at: Option<Instant>,
    starts: u32,
    started_at: Option<Instant>,
}

/// Looks after one environment until it leaves.
pub(super) async fn guard(tender: &Tender) {
    let (mut memory, mut pauses) = (Memory::default(), Pauses::default());
    while !tender.leaves() {
        let cx = tender.context();
        let pause = match Box::pin(look(tender, &cx, &mut memory)).await {
            Ok(pause) => {
                pauses.works(tender);
                pause
            }
            Err(error) => pauses.failed(tender, &cx, &error),
        };
        tender.rest(pause).await;
    }
}

async fn look(tender: &Tender, cx: &Context, memory: &mut Memory) -> Result<Duration, EngineError> {
    if tender.ordering.load(Ordering::SeqCst) > 0 {
        return Ok(PERIOD);
    }
    if cx.ledger.lease(&tender.key).await?.is_some_and(|view| view.alive) {
        return Ok(PERIOD);
    }
    let plan = match cx.ledger.open_operation(&tender.key).await {
        Err(LedgerError::CorruptRecord { what, message }) => {
            quarantined(tender, &format!("{what}: {message}"));
            return Ok(PERIOD);
        }
        other => other?,
    };
    match plan {
        None => {
            tender.is_over("waits");
            idle(tender, cx, memory).await
        }
        Some(plan) => match state(cx, &plan).await? {
            Err(why) => {
                quarantined(tender, &why);
                Ok(PERIOD)
            }
            Ok(state) if waits(tender, &plan, &state, memory) => Ok(PERIOD),
            Ok(_) => resume(tender, cx, &plan).await,
        },
    }
}

async fn state(cx: &Context, plan: &Plan) -> Result<Result<State, String>, LedgerError> {
    match cx.ledger.entries(&plan.operation).await {
        Ok(entries) => Ok(fold(plan, &entries).map_err(|error| error.to_string())),
        Err(error @ LedgerError::CorruptRecord { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

fn quarantined(tender: &Tender, why: &str) {
    if tender.is_news("waits", why) {
        tracing::error!(environment = %tender.key, "an operation is left alone, its journal can't be read: {why}; end it with `backout resolve --reason TEXT`");
    }
}

/// It is for somebody else to go on: a person (stuck), or whoever asked the last holder to yield.
fn waits(tender: &Tender, plan: &Plan, state: &State, memory: &mut Memory) -> bool {
    if let Some((step, reason)) = &state.stuck {
        if tender.is_news("waits", &format!("{} {reason}", plan.operation)) {
            let step = plan.steps.get(*step).map_or("its end", |step| step.name.as_str());
            tracing::error!(environment = %tender.key, operation = %plan.operation, step, "{} is stuck: {reason}; `backout retry`, `backout rollback` and `backout resolve --reason TEXT` go on from there", what(plan));
        }
        return true;
    }
    if state.yield_to.is_none() {
        memory.yielded = None;
        return false;
    }
    match &memory.yielded {
        Some((operation, since)) if *operation == plan.operation => since.elapsed() < COURTESY,
        _ => {
            memory.yielded = Some((plan.operation.clone(), Instant::now()));
            true
        }
    }
}

/// `deploy of 1.4.2 as #43`.
pub(super) fn what(plan: &Plan) -> String {
    let version = plan.version.as_ref().map(|v| format!(" of {v}")).unwrap_or_default();
    let number = plan.deployment.map(|n| format!(" as #{n}")).unwrap_or_default();
    format!("the {}{version}{number}", plan.kind)
}

async fn resume(tender: &Tender, cx: &Context, seen: &Plan) -> Result<Duration, EngineError> {
    let claimed = match claim(cx).await {
        Err(EngineError::Busy(_)) => return Ok(PERIOD),
        other => other?,
    };
    let result = match claimed.open.clone().filter(|plan| plan.operation == seen.operation) {
        None => Ok(None),
        Some(plan) => match Journal::load(cx.ledger.as_ref(), plan).await {
            // Somebody was here between the look and the claim.
            Ok(journal) if journal.state.stuck.is_some() || journal.state.yield_to.is_some() => {
                Ok(None)
            }
            Ok(journal) => {
                let step = journal.state.current();
                let step = step.map_or("its end", |step| journal.plan.steps[step].name.as_str());
                let holder = journal.state.holder.as_deref().unwrap_or("nobody");
                let left = if journal.state.handed_over { "handed over" } else { "left" };
                tracing::info!(environment = %tender.key, operation = %seen.operation, step, holder, "{} was {left}, and is taken up", what(seen));
                Box::pin(recover_open(cx, &claimed.keeper, journal)).await.map(Some)
            }
            Err(error) => Err(error.into()),
        },
    };
    give_back(cx, claimed.keeper).await;
    match result? {
        None => Ok(PERIOD),
        Some(outcome) => ended(tender, &outcome),
    }
}

/// Says how a run ended, and when to look again.
pub(super) fn ended(tender: &Tender, outcome: &Outcome) -> Result<Duration, EngineError> {
    let plan = &outcome.operation().plan;
    let (environment, operation, words) = (&tender.key, &plan.operation, what(plan));
    match outcome.last() {
        Outcome::Ended { .. } => {
            let status = outcome.operation().rows.deployment.as_ref().map(|row| row.status);
            let status = status.map_or("over", DeploymentStatus::as_str);
            tracing::info!(%environment, %operation, status, "{words} ended");
        }
        // Said when it is looked at again.
        Outcome::Stuck { .. } => {}
        Outcome::Yielded { superseded, .. } => {
            let by = if *superseded { "a newer deploy" } else { "a rollback" };
            tracing::info!(%environment, %operation, "{words} is left to {by}");
        }
        Outcome::Stopped { .. } => {
            tracing::info!(%environment, %operation, "{words} is handed over to whoever comes next");
        }
        Outcome::Lost { reason, taken_over: true, .. } => {
            tracing::info!(%environment, %operation, "{words} is gone on with elsewhere: {reason}");
        }
        Outcome::Lost { reason, .. } => {
            return Err(EngineError::Failed(format!("{words} had to be let go: {reason}")));
        }
    }
    Ok(PERIOD)
}

async fn idle(tender: &Tender, cx: &Context, memory: &mut Memory) -> Result<Duration, EngineError> {
    if memory.settle_at.is_none_or(|at| at <= Instant::now()) && bake_is_over(cx).await? {
        memory.settle_at = Some(Instant::now() + SETTLE_PERIOD);
        let claimed = match claim(cx).await {
            Err(EngineError::Busy(_)) => return Ok(PERIOD),
            other => other?,
        };
        let result = match &claimed.open {
            None => settle_unwatched_bake(cx, &claimed.keeper).await,
            Some(_) => Ok(()),
        };
        give_back(cx, claimed.keeper).await;
        result?;
    }
    if tender.down.load(Ordering::SeqCst) && tender.leads(cx).await? {
        start(tender, cx, memory).await?;
    }
    Ok(PERIOD)
}

/// A rollback to a release that was never stable ends while it bakes.
async fn bake_is_over(cx: &Context) -> Result<bool, LedgerError> {
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let Some(number) = environment.live else { return Ok(false) };
    let Some(row) = cx.ledger.deployment(&cx.key, number).await? else { return Ok(false) };
    let since_ms = cx.now().as_millisecond() - row.started_at.as_millisecond();
    Ok(row.status == DeploymentStatus::Baking
        && u64::try_from(since_ms).is_ok_and(|ms| ms >= cx.policy.bake_ms))
}

/// Starts what should run and does not; what does not stay up is left to a person after some tries.
async fn start(tender: &Tender, cx: &Context, memory: &mut Memory) -> Result<(), EngineError> {
    if tender.stayed_up.swap(false, Ordering::SeqCst) {
        memory.starts = 0;
        tender.is_over("down");
    }
    let pause = START_PERIOD.saturating_mul(1 << memory.starts.saturating_sub(1).min(8));
    if memory.starts > 0 && memory.started_at.is_some_and(|at| at.elapsed() < pause) {
        return Ok(());
    }
    if memory.starts >= STARTS {
        if tender.is_news("down", "given up") {
            tracing::error!(environment = %tender.key, "what should run does not stay up, it was started {STARTS} times; `backout recover` starts it once more");
        }
        return Ok(());
    }
    let claimed = match claim(cx).await {
        Err(EngineError::Busy(_)) => return Ok(()),
        other => other?,
    };
    let result = match &claimed.open {
        None => {
            memory.starts += 1;
            memory.started_at = Some(Instant::now());
            Box::pin(start_what_should_run(cx, &claimed.keeper, false)).await
        }
        Some(_) => Ok(Vec::new()),
    };
    give_back(cx, claimed.keeper).await;
    tender.down.store(false, Ordering::SeqCst);
    match result {
        Ok(started) if started.is_empty() => {}
        Ok(started) => {
            tracing::warn!(environment = %tender.key, "what should run did not, and was started again: {}", started.join(", "));
        }
        Err(EngineError::Journal(JournalError::Ledger(error)) | EngineError::Ledger(error)) => {
            return Err(error.into());
        }
        Err(error) => {
            tracing::error!(environment = %tender.key, "what should run could not be started: {error}");
        }
    }
    Ok(())
}
