//! Observes what is, for the planners.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backout_core::ids::{HostName, ReleaseId, ServiceName, Slot, Unit};
use backout_core::model::{EnvironmentRecord, Release};
use backout_core::plan::{Live, Side, Situation};
use backout_core::ports::{LedgerError, Observed, Running};
use futures_util::stream::{self, StreamExt};

use crate::context::Context;

/// The unit of a service in a slot on the first host: for what is the same on each.
pub(crate) fn unit(cx: &Context, service: &ServiceName, slot: Slot) -> Unit {
    let host = cx.policy.hosts.names.first().cloned().unwrap_or_else(HostName::local);
    Unit { key: cx.key.clone(), service: service.clone(), host, slot }
}

/// The units of a service in a slot, one for each host of today's file.
pub(crate) fn units(cx: &Context, service: &ServiceName, slot: Slot) -> Vec<Unit> {
    let of = |host: &HostName| Unit { host: host.clone(), ..unit(cx, service, slot) };
    cx.policy.hosts.names.iter().map(of).collect()
}

/// A service on a host as people and checks name it; this machine needs no mention.
pub(crate) fn who(unit: &Unit) -> String {
    if unit.host.is_local() {
        unit.service.to_string()
    } else {
        format!("{}@{}", unit.service, unit.host)
    }
}

/// What runs in each of the units, in their order; as many are asked at once as the policy allows.
pub(crate) async fn observe_each(
    cx: &Context,
    units: Vec<Unit>,
    release: Option<&Release>,
) -> Vec<(Unit, Observed)> {
    let ask = |unit: Unit| async move {
        let seen = observe(cx, &unit, release).await;
        (unit, seen)
    };
    stream::iter(units).map(ask).buffered(cx.policy.hosts.at_once.max(1)).collect().await
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
            // A job has run; nothing of it should.
            if release.content.services.get(service).is_some_and(|s| s.job.is_some()) {
                continue;
            }
            let on = |host| Unit { host, ..unit(cx, service, *slot) };
            let units = record.hosts_of(service).into_iter().map(on).collect();
            let seen = observe_each(cx, units, Some(&release)).await;
            let each = seen.iter().map(|(_, seen)| record.believed(effective(seen, &release)));
            let now = each.fold(Running::Yes, together);
            let serves = release.content.services.get(service).is_none_or(|s| s.traffic);
            // A worker that died does not make a warm side cold, but it is to be started again.
            if now == Running::No && !serves && record.services.len() > 1 {
                idle.insert(service.clone());
                continue;
            }
            running = together(running, now);
        }
        let side = Side {
            deployment: record.deployment,
            release,
            running,
            services: record.services.clone(),
            hosts: record.hosts.clone(),
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

/// What several do that all have to run.
fn together(one: Running, other: Running) -> Running {
    match (one, other) {
        (_, Running::No) | (Running::No, _) => Running::No,
        (_, Running::Unknown) | (Running::Unknown, _) => Running::Unknown,
        _ => Running::Yes,
    }
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

#[cfg(test)]
pub(crate) mod tests {
    use backout_core::ids::{AppName, EnvironmentKey, EnvironmentName};

    use super::*;

    /// A unit of a service on this machine.
    pub(crate) fn unit(service: &str) -> Unit {
        let app = AppName::new("shop").unwrap();
        let environment = EnvironmentName::new("production").unwrap();
        let service = ServiceName::new(service).unwrap();
        let key = EnvironmentKey { app, environment };
        Unit { key, service, host: HostName::local(), slot: Slot::A }
    }
}
