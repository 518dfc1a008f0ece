//! `status --format json` (`INTERFACES`).

use backout_core::ids::{EnvironmentName, HostName};
use backout_core::model::Request;
use backout_engine::{Operation, Standing, TrafficView, View};
use serde_json::{Value, json};

use super::{Described, at_step, drill_of, host_health, unwatched};
use crate::cli::report::json as documents;

/// An environment as its ledger and router have it.
#[must_use]
pub fn document(described: &Described<'_>) -> Value {
    let view = described.view;
    let live = view.live.as_ref();
    let operation = view.operation.as_ref();
    let weights: Vec<Value> = described
        .shares
        .iter()
        .map(|s| json!({ "deployment": s.deployment, "version": s.version, "percent": s.percent }))
        .collect();
    json!({
        "name": view.environment.key.environment,
        "deployment": live.map(|row| row.number),
        "version": live.map(|row| &row.version),
        "status": live.map(|row| row.status),
        "kind": live.map(|row| row.kind),
        "release": live.map(|row| &row.release),
        "since": view.live_since,
        "health": view.health_now(),
        "health_last": view.health.as_ref().map(|health| health.overall),
        "health_checked_at": view.health.as_ref().map(|health| health.checked_at),
        "findings": described.findings,
        "watched_by": operation
            .filter(|op| op.held)
            .and(view.lease.as_ref())
            .map(|lease| &lease.holder.label)
            .or(view.controller.as_ref()),
        "controller": view.controller,
        "unwatched_since": unwatched(view),
        "weights": weights,
        "weights_from": if described.from_router { "router" } else { "ledger" },
        "slots": slots(view),
        "services": services(view),
        "rollback_readiness": view.readiness.as_ref().map(|report| json!({
            "deployment": report.found.is_none().then_some(report.deployment), "version": report.version,
            "found": report.found, "ready": report.ready,
            "checked_at": report.checked_at, "checks": report.checks, "expected_ms": report.expected_ms,
            "drill": drill_of(view, report).map(documents::drill),
        })),
        "operation": operation.map(|op| open_operation(op, described)),
        "orders": orders(view),
        "dead_man": dead_man(view),
        "trip": trip(view),
        "config_drift": view.drift,
        "warnings": described.warnings,
    })
}

/// An environment that no ledger knows.
#[must_use]
pub fn unknown(name: &EnvironmentName) -> Value {
    json!({
        "name": name, "deployment": null, "version": null, "status": null, "kind": null, "release": null,
        "since": null, "health": "unknown", "health_last": null, "health_checked_at": null, "findings": [],
        "watched_by": null, "controller": null, "unwatched_since": null, "weights": [], "weights_from": "ledger", "slots": [],
        "services": [], "rollback_readiness": null, "operation": null, "orders": [], "dead_man": null, "trip": null,
        "config_drift": [], "warnings": [],
    })
}

fn services(view: &View) -> Vec<Value> {
    let (Some(live), Some(release)) = (&view.live, &view.release) else { return Vec::new() };
    let record = view.environment.slots.get(&live.slot);
    let mut rows = Vec::new();
    for service in release.content.services.keys() {
        let hosts = record.map(|record| record.hosts_of(service)).unwrap_or_default();
        // What does not run belongs somewhere, too.
        let hosts = if hosts.is_empty() { [HostName::local()].into() } else { hosts };
        for host in hosts {
            rows.push(json!({
                "name": service, "host": host, "version": release.content.version_of(service),
                "health": host_health(view, service.as_str(), &host),
            }));
        }
    }
    rows
}

/// Deploys that wait for a controller.
fn orders(view: &View) -> Vec<Value> {
    let one = |request: &Request| {
        json!({
            "request": request.id, "operation": request.operation, "kind": request.kind,
            "version": request.order.as_ref().map(|order| &order.release.content.version),
            "requested_by": request.requested_by, "since": request.created_at,
        })
    };
    view.orders.iter().map(one).collect()
}

fn slots(view: &View) -> Vec<Value> {
    let slot = |(slot, record): (&backout_core::ids::Slot, &backout_core::model::SlotRecord)| {
        json!({
            "slot": slot, "deployment": record.deployment, "version": record.version,
            "state": record.state, "services": record.services,
        })
    };
    view.environment.slots.iter().map(slot).collect()
}

fn dead_man(view: &View) -> Option<Value> {
    let TrafficView::Known(traffic) = &view.traffic else { return None };
    if traffic.dead_man.is_none() && traffic.fired.is_none() {
        return None;
    }
    Some(json!({
        "armed": traffic.dead_man.map(|armed| json!({ "stable": armed.stable, "after_ms": armed.after_ms })),
        "fired": traffic.fired.as_ref().map(|fired| json!({
            "at": fired.at, "stable": fired.stable, "moved": fired.moved, "reason": fired.reason,
        })),
    }))
}

fn trip(view: &View) -> Option<Value> {
    let TrafficView::Known(traffic) = &view.traffic else { return None };
    if traffic.trip.is_none() && traffic.tripped.is_none() {
        return None;
    }
    Some(json!({
        "armed": traffic.trip.map(|armed| json!({ "stable": armed.stable })),
        "fired": traffic.tripped.as_ref().map(|fired| json!({
            "at": fired.at, "stable": fired.stable, "moved": fired.moved,
            "evidence": fired.evidence, "reason": fired.reason,
        })),
    }))
}

fn open_operation(operation: &Operation, described: &Described<'_>) -> Value {
    let plan = &operation.plan;
    let standing = operation.standing();
    let step = at_step(operation);
    let state = operation.state.as_ref().ok();
    let lease = described.view.lease.as_ref().map(|lease| lease.holder.label.as_str());
    let journaled = state.and_then(|state| state.holder.as_deref());
    let holder = if operation.held { lease.or(journaled) } else { journaled.or(lease) };
    let (stuck, error) = match &standing {
        Standing::Stuck { step, reason } => (Some(json!({ "step": step, "reason": reason })), None),
        Standing::Quarantined(why) => (None, Some(why.clone())),
        _ => (None, None),
    };
    let ways: Vec<Value> = described
        .ways
        .iter()
        .map(|way| json!({ "command": way.command, "what": way.what }))
        .collect();
    json!({
        "id": plan.operation, "kind": plan.kind, "deployment": plan.deployment, "version": plan.version,
        "step": step.as_ref().map(|(name, _)| name), "step_detail": step.and_then(|(_, detail)| detail),
        "holder": holder,
        "since": plan.planned_at, "strategy": plan.strategy,
        "state": word(&standing), "held": operation.held,
        "paused": state.is_some_and(|state| state.paused),
        "stuck": stuck, "error": error,
        "failing": state.and_then(|state| state.failing.as_ref()),
        "continue": ways,
    })
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Running => "running",
        Standing::Unwatched => "unwatched",
        Standing::Interrupted => "interrupted",
        Standing::Stuck { .. } => "stuck",
        Standing::Quarantined(_) => "quarantined",
    }
}
