//! `down`: stop what runs; ledger, data and copies stay.

use backout_core::model::{RequestKind, Trigger};
use backout_core::plan::{Plan, plan_down};

use super::EngineError;
use super::claim::{claim_from_holder, give_back, ours_alone};
use super::rollback::begin;
use super::take_back::{made_by, plan_context};
use crate::context::Context;
use crate::executor::Outcome;
use crate::journal;
use crate::situation;

/// Plans it without changing anything.
///
/// # Errors
/// When the ledger can't be read.
pub async fn prepare_down(cx: &Context) -> Result<Plan, EngineError> {
    ours_alone(cx).await?;
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let situation = situation::observe_situation(cx, &environment).await?;
    let pcx = plan_context(cx, environment.next_number, None, false, Vec::new());
    Ok(plan_down(&pcx, &situation, None))
}

/// Stops everything; a running operation is taken over.
///
/// # Errors
/// When it could not begin.
pub async fn down(cx: &Context, reason: Option<String>) -> Result<Outcome, EngineError> {
    let claimed = claim_from_holder(cx, RequestKind::TakeOver).await?;
    let result = Box::pin(run(cx, reason, &claimed)).await;
    give_back(cx, claimed.keeper).await;
    result
}

async fn run(
    cx: &Context,
    reason: Option<String>,
    claimed: &super::claim::Claimed,
) -> Result<Outcome, EngineError> {
    let (old, environment) = claimed.taken_over(cx).await?;
    let situation = situation::observe_situation(cx, &environment).await?;
    let pcx = plan_context(cx, environment.next_number, reason, false, Vec::new());
    let words = old.as_ref().and_then(|journal| {
        let bad = journal.state.failing.as_ref().is_some_and(|failure| failure.release_is_bad);
        let stopped = vec!["stopped by `backout down`".to_owned()];
        if journal.plan.can_be_taken_back() {
            return made_by(&journal.plan).map(|left| (left, Trigger::Manual, stopped, bad));
        }
        // A way back that is stopped half-way leaves what it was about to leave, for the same reason.
        let (left, trigger) = journal.plan.left.clone().zip(journal.plan.trigger)?;
        Some((left, trigger, journal.plan.evidence.clone(), journal.plan.reject_left))
    });
    let plan = plan_down(&pcx, &situation, words);
    begin(cx, &claimed.keeper, old, &environment, (plan, None)).await
}
