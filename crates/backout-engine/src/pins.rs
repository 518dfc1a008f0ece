//! What a release needs is kept, and brought to where it will run, before anything that runs is changed.

use backout_core::ids::{ReleaseId, Unit};
use backout_core::plan::{Action, Plan};
use backout_core::ports::{AdapterError, ErrorClass, Receipt, StepCx};
use futures_util::stream::{self, StreamExt as _};

use crate::context::Context;
use crate::situation;

/// Keeps the artifacts of a release, then prepares the units in which this plan starts it, some hosts at a time and those
/// of a host one after the other: what one has brought there another one may need too. Each host is tried, also after
/// another one failed: what came over stays there.
pub(crate) async fn pin(
    cx: &Context,
    plan: &Plan,
    id: &ReleaseId,
    step: &StepCx,
) -> Result<Receipt, AdapterError> {
    let release = situation::release(cx, id)
        .await
        .map_err(|error| AdapterError::transient(error.to_string()))?;
    for artifact in release.content.artifacts.iter().filter(|artifact| artifact.kept) {
        cx.artifacts.pin(&artifact.path, &artifact.digest).await?;
    }
    let prepare = |units: Vec<Unit>| {
        let release = &release;
        async move {
            for unit in &units {
                cx.target.prepare(unit, release, step).await?;
            }
            Ok(())
        }
    };
    let at_once = cx.policy.hosts.at_once.max(1);
    let prepared: Vec<Result<(), AdapterError>> =
        stream::iter(by_host(cx, plan, id)).map(prepare).buffer_unordered(at_once).collect().await;
    prepared.into_iter().filter_map(Result::err).reduce(both).map_or(Ok(Receipt::default()), Err)
}

/// What stands in the way on each of the hosts. It may be tried again while one of them may get better by itself.
fn both(one: AdapterError, other: AdapterError) -> AdapterError {
    let (first, second) = match other.class {
        ErrorClass::Permanent => (one, other),
        ErrorClass::Transient | ErrorClass::Unknown => (other, one),
    };
    AdapterError { message: format!("{}; {}", first.message, second.message), ..first }
}

/// Where the plan starts the release, host by host.
fn by_host(cx: &Context, plan: &Plan, id: &ReleaseId) -> Vec<Vec<Unit>> {
    let mut hosts: Vec<Vec<Unit>> = Vec::new();
    for step in &plan.steps {
        let Action::Start { service, host, slot, release, .. } = &step.action else { continue };
        let (service, host) = (service.clone(), host.clone());
        let unit = Unit { key: cx.key.clone(), service, host, slot: *slot };
        if release != id {
            continue;
        }
        match hosts.iter_mut().find(|units| units[0].host == unit.host) {
            Some(units) if units.contains(&unit) => {}
            Some(units) => units.push(unit),
            None => hosts.push(vec![unit]),
        }
    }
    hosts
}
