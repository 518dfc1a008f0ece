//! Takes ordered deploys, each one once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backout_core::ids::RequestId;
use backout_core::model::{DeployOrder, Request, RequestAnswer};
use tokio::task::JoinSet;

use super::beat::policy_digest;
use super::guard::ended;
use super::tender::{PERIOD, Pauses, Running, Tender};
use crate::commands::deploy::{Source, deploy_from};
use crate::commands::{EngineError, Refused};
use crate::context::Context;

/// An order that nobody took for so long is not what anybody waits for.
const LIFE: Duration = Duration::from_secs(600);
/// A controller that does not lead leaves an order to the one that does for so long.
const COURTESY_MS: i64 = 5_000;

/// Takes orders until it leaves, and ends when those that run have ended.
pub(super) async fn orders(tender: &Arc<Tender>) {
    let mut pauses = Pauses::default();
    let mut taken = BTreeSet::new();
    let mut running = JoinSet::new();
    while !tender.leaves() {
        let cx = tender.context();
        let pause = match look(tender, &cx, &mut taken, &mut running).await {
            Ok(()) => {
                pauses.works(tender);
                PERIOD
            }
            Err(error) => pauses.failed(tender, &cx, &error),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = tender.leaving() => {}
        }
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
}

async fn look(
    tender: &Arc<Tender>,
    cx: &Context,
    taken: &mut BTreeSet<RequestId>,
    running: &mut JoinSet<()>,
) -> Result<(), EngineError> {
    let waiting = cx.ledger.orders(Some(&tender.key)).await?;
    taken.retain(|id| waiting.iter().any(|request| request.id == *id));
    for request in waiting {
        if taken.contains(&request.id) {
            continue;
        }
        let age_ms = cx.now().as_millisecond() - request.created_at.as_millisecond();
        if u64::try_from(age_ms).is_ok_and(|ms| u128::from(ms) > LIFE.as_millis()) {
            let minutes = LIFE.as_secs() / 60;
            refuse(tender, cx, &request, format!("it waited for more than {minutes} min"), false)
                .await?;
            continue;
        }
        if age_ms < COURTESY_MS && !tender.leads(cx).await? {
            continue;
        }
        taken.insert(request.id.clone());
        let (tender, cx) = (tender.clone(), cx.clone());
        running.spawn(async move { take(&tender, &cx, &request).await });
    }
    Ok(())
}

async fn take(tender: &Tender, cx: &Context, request: &Request) {
    let _counted = Running::begin(tender);
    let (environment, operation) = (&tender.key, &request.operation);
    let result = match ordered(cx, request) {
        Ok((cx, order)) => {
            let (version, by) = (&order.release.content.version, &request.requested_by);
            tracing::info!(%environment, %operation, by, "a deploy of {version} was ordered");
            Box::pin(deploy_from(&cx, &Source::Order(request, order))).await
        }
        Err(error) => Err(error),
    };
    let said = match result {
        Ok(outcome) => ended(tender, &outcome).map(|_| ()),
        Err(error) => {
            let busy = matches!(error, EngineError::Busy(_));
            refuse(tender, cx, request, error.to_string(), busy).await
        }
    };
    if let Err(error) = said {
        tracing::warn!(%environment, %operation, "{error}");
    }
}

/// The context of an order: the strategy and services of whoever asked, the rest as it is here.
fn ordered<'a>(
    cx: &Context,
    request: &'a Request,
) -> Result<(Context, &'a DeployOrder), EngineError> {
    let Some(order) = request.order.as_deref() else {
        return Err(Refused::new("it does not say what to deploy", "order it again").into());
    };
    if order.policy != policy_digest(&cx.policy) {
        let message = "backout.yaml was changed between the order and now";
        return Err(Refused::new(message, "order it again").into());
    }
    let mut cx = cx.clone();
    cx.policy.strategy = order.strategy.clone();
    cx.services = order.release.content.services.clone();
    Ok((cx, order))
}

async fn refuse(
    tender: &Tender,
    cx: &Context,
    request: &Request,
    message: String,
    busy: bool,
) -> Result<(), EngineError> {
    let words = message.clone();
    let answer = RequestAnswer { accepted: false, message, answered_at: cx.now(), busy };
    if cx.ledger.answer(&request.id, &answer).await? {
        tracing::warn!(environment = %tender.key, operation = %request.operation, "an ordered deploy is refused: {words}");
    }
    Ok(())
}
