//! Observes what is, for the planners.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backout_core::ids::{HostName, ReleaseId, ServiceName, Slot, Unit};
use backout_core::model::{EnvironmentRecord, Release};
use backout_core::plan::{Live, Side, Situation};
use backout_core::ports::{LedgerError, Observed, Running};

use crate::context::Context;

/// The unit of a service in a slot on this machine.
pub(crate) fn unit(cx: &Context, service: &ServiceName, slot: Slot) -> Unit {
    Unit { key: cx.key.clone(), service: service.clone(), host: HostName::local(), slot }
}

/// A release by id.
pub(crate) async fn release(cx: &Context, id: &ReleaseId) -> Result<Arc<Release>, LedgerError> {
    cx.ledger.release_by_id(id).await?.map(Arc::new).ok_or_else(|| LedgerError::CorruptRecord {
        what: format!("release {id}"),
        message: "it is missing".to_owned(),
    })
}

/// What runs in a unit; what can't be told is `Unknown`.
pub(crate) async fn observe(cx: &Context, unit: &Unit, release: Option<&Release>) -> Observed {
    match cx.target.observe(unit, release).await {
        Ok(observed) => observed,
        Err(error) => {
            cx.events.note(format!("failed to observe {unit}: {error}"));
            Observed::unknown()
        }
    }
}

/// Observes the slots that the ledger knows of, and the router.
pub(crate) async fn observe_situation(
    cx: &Context,
    environment: &EnvironmentRecord,
) -> Result<Situation, LedgerError> {
    let mut slots = BTreeMap::new();
    for (slot, record) in &environment.slots {
        let release = release(cx, &record.release).await?;
        let mut running = Running::Yes;
        let mut idle = BTreeSet::new();
        for service in &record.services {
            let observed = observe(cx, &unit(cx, service, *slot), Some(&release)).await;
            let now = record.believed(effective(&observed, &release));
            let serves = release.content.services.get(service).is_none_or(|s| s.traffic);
            // A worker that died does not make a warm side cold, but it is to be started again.
            if now == Running::No && !serves && record.services.len() > 1 {
                idle.insert(service.clone());
                continue;
            }
            running = match (running, now) {
                (_, Running::No) | (Running::No, _) => Running::No,
                (_, Running::Unknown) | (Running::Unknown, _) => Running::Unknown,
                _ => Running::Yes,
            };
        }
        let side = Side {
            deployment: record.deployment,
            release,
            running,
            services: record.services.clone(),
            idle,
        };
        slots.insert(*slot, side);
    }
    let weights = match &cx.router {
        Some(router) => router.read().await.ok().flatten().map(|traffic| traffic.weights),
        None => None,
    };
    Ok(Situation { live: live(cx, environment).await?, slots, weights })
}

/// A unit that runs another release than the ledger believes does not run that release.
fn effective(observed: &Observed, release: &Release) -> Running {
    match &observed.release {
        Some(id) if *id != release.id => Running::No,
        _ => observed.running,
    }
}

/// The live deployment as planners name it.
pub(crate) async fn live(
    cx: &Context,
    environment: &EnvironmentRecord,
) -> Result<Option<Live>, LedgerError> {
    let Some(number) = environment.live else { return Ok(None) };
    let row = cx.ledger.deployment(&cx.key, number).await?;
    Ok(row.map(|row| Live { number, release: row.release, version: row.version, slot: row.slot }))
}
