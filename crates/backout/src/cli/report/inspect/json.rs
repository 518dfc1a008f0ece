//! `inspect --format json`.

use backout_core::model::Release;
use backout_core::plan::Plan;
use backout_core::saga::{Ending, State, step_records};
use serde_json::{Value, json};

use super::{Inspected, Part, incident, there};
use crate::cli::report::json as documents;

/// One document with every part: an object, null where there is none, `{"error": …}` where it can't be read.
#[must_use]
pub fn document(inspected: &Inspected) -> Value {
    let rollbacks: Vec<Value> = inspected.rollbacks.iter().map(documents::rollback).collect();
    let same: Vec<Value> = inspected.same_release.iter().map(documents::deployment).collect();
    let journal = match (&inspected.journal, inspected.with_history) {
        (_, false) => Value::Null,
        (part, true) => self::part(part, |entries| json!(entries)),
    };
    json!({
        "what": inspected.what,
        "name": inspected.name,
        "app": inspected.key.as_ref().map(|key| &key.app),
        "environment": inspected.key.as_ref().map(|key| &key.environment),
        "live": inspected.live,
        "deployment": part(&inspected.deployment, |row| {
            let restore_ms = there(&inspected.rollback).and_then(documents::restore_ms);
            documents::measured(row, restore_ms, inspected.drill.as_ref())
        }),
        "rollback": part(&inspected.rollback, documents::rollback),
        "release": part(&inspected.release, release),
        "operation": part(&inspected.operation, |plan| operation(plan, &inspected.state)),
        "evidence": inspected.evidence(),
        "warnings": inspected.warnings(),
        "incident": part(&inspected.incident, |bundle| incident::document(bundle, inspected.at)),
        "journal": journal,
        "same_release": same,
        "rollbacks": rollbacks,
    })
}

fn part<T>(part: &Part<T>, document: impl Fn(&T) -> Value) -> Value {
    match part {
        Ok(found) => found.as_ref().map_or(Value::Null, document),
        Err(error) => json!({ "error": error }),
    }
}

fn release(release: &Release) -> Value {
    let own = |name| json!(release.content.version_of(name));
    let versions: serde_json::Map<String, Value> =
        release.content.services.keys().map(|name| (name.to_string(), own(name))).collect();
    json!({
        "id": release.id, "version": release.content.version, "app": release.content.app,
        "created_at": release.created_at, "created_by": release.created_by,
        "services": release.content.services, "versions": versions,
        "origins": release.content.origins, "artifacts": release.content.artifacts,
        "config": release.content.config,
    })
}

fn operation(plan: &Plan, state: &Part<State>) -> Value {
    let known = there(state);
    let ending = known.and_then(|state| state.ended.as_ref());
    let word = match (state, ending) {
        (Err(_), _) => "unreadable",
        (_, Some(ending)) => ending_word(ending),
        (_, None) if known.is_some_and(|state| state.stuck.is_some()) => "stuck",
        (_, None) => "open",
    };
    json!({
        "id": plan.operation, "kind": plan.kind, "strategy": plan.strategy, "digest": plan.digest(),
        "deployment": plan.deployment, "version": plan.version, "services": plan.services, "slot": plan.slot,
        "from": plan.from, "left": plan.left, "planned_at": plan.planned_at,
        "requested_by": plan.requested_by, "surface": plan.surface, "reason": plan.reason,
        "forced": plan.forced, "overrides": plan.overrides,
        "automatic_rollback": plan.automatic_rollback, "work_timeout_ms": plan.work_timeout_ms,
        "state": word, "ending": ending, "error": state.as_ref().err(),
        "failing": known.and_then(|state| state.failing.as_ref()),
        "stuck": known.and_then(|state| state.stuck.as_ref()).map(|(step, reason)| {
            json!({ "step": plan.steps.get(*step).map(|step| &step.name), "reason": reason })
        }),
        "holder": known.and_then(|state| state.holder.as_ref()),
        "traffic_safe_at": known.and_then(|state| state.traffic_safe_at),
        "steps": steps(plan, known),
    })
}

fn steps(plan: &Plan, state: Option<&State>) -> Vec<Value> {
    let records = state.map(|state| step_records(plan, state));
    let one = |(index, step): (usize, &backout_core::plan::Step)| {
        let record = records.as_ref().and_then(|records| records.get(index));
        let progress = state.and_then(|state| state.steps.get(index));
        json!({
            "id": plan.effect_key(step), "phase": step.phase, "name": step.name, "subject": step.subject,
            "before": step.before, "after": step.after, "nature": step.nature,
            "timeout_ms": step.timeout_ms, "max_attempts": step.max_attempts,
            "status": record.map(|record| &record.status),
            "attempts": record.map(|record| record.attempts),
            "duration_ms": record.map(|record| record.duration_ms),
            "started_at": progress.and_then(|progress| progress.started_at),
            "error": progress.and_then(|progress| progress.error.as_ref()),
            "message": progress.and_then(|p| p.receipt.as_ref()).map(|receipt| &receipt.message),
        })
    };
    plan.steps.iter().enumerate().map(one).collect()
}

/// How an operation ended, in one word.
#[must_use]
pub(super) fn ending_word(ending: &Ending) -> &'static str {
    match ending {
        Ending::Done { healthy: true } => "done",
        Ending::Done { healthy: false } => "done_unhealthy",
        Ending::NothingChanged { .. } => "failed",
        Ending::FailedLive { .. } => "failing_live",
        Ending::TakenBack { .. } => "taken_back",
        Ending::Superseded { .. } => "superseded",
        Ending::Resolved { .. } => "resolved",
    }
}
