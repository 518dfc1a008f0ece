//! The documents of `--format json`.

use backout_core::model::{Deployment, DrillRecord, RollbackRecord};
use backout_core::saga::step_records;
use backout_engine::{Finished, Outcome};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Prints one document on standard output.
pub fn print(value: &Value) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // A reader that has left is no failure of the command.
    let _ = writeln!(out, "{value}");
    let _ = out.flush();
}

fn span_ms(from: Timestamp, to: Option<Timestamp>) -> Option<u64> {
    to.map(|to| u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0))
}

/// One element of `history`.
#[must_use]
pub fn deployment(row: &Deployment) -> Value {
    json!({
        "number": row.number, "id": row.id, "kind": row.kind, "app": row.key.app, "environment": row.key.environment,
        "version": row.version, "from_version": row.from_version, "from_number": row.from_number,
        "release": row.release, "status": row.status, "rollback_type": row.rollback_type, "trigger": row.trigger,
        "surface": row.surface, "reason": row.reason, "requested_by": row.requested_by, "forced": row.forced,
        "rejected": row.rejected, "started_at": row.started_at, "completed_at": row.completed_at,
        "duration_ms": span_ms(row.started_at, row.completed_at), "health": row.health,
        "error_message": row.error_message, "warnings": row.warnings, "operation": row.operation,
        "slot": row.slot, "partial": !row.services.is_empty(), "services": row.services,
        "restore_ms": null, "drill": null,
    })
}

/// A deployment with what was measured: of a rollback the time until users were safe, of its release the last drill.
#[must_use]
pub fn measured(row: &Deployment, restore_ms: Option<u64>, drill: Option<&DrillRecord>) -> Value {
    let mut value = deployment(row);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("restore_ms".to_owned(), json!(restore_ms));
        fields.insert("drill".to_owned(), drill.map_or(Value::Null, self::drill));
    }
    value
}

/// A drill, as others show it.
#[must_use]
pub fn drill(record: &DrillRecord) -> Value {
    json!({
        "operation": record.operation, "deployment": record.deployment, "version": record.version,
        "at": record.at, "passed": record.passed, "started_beside": record.beside,
        "restore_ms": record.restore_ms, "rehearsed": record.rehearsed,
        "left_out": record.left_out, "error_message": record.error,
    })
}

/// Until users were safe, milliseconds.
#[must_use]
pub fn restore_ms(record: &RollbackRecord) -> Option<u64> {
    span_ms(record.started_at, record.traffic_safe_at)
}

/// An element of `history` whose record is damaged: all keys are there, and the message says why they are null.
#[must_use]
pub fn unreadable_deployment(number: u64, error: &str) -> Value {
    json!({
        "number": number, "id": null, "kind": null, "app": null, "environment": null, "version": null,
        "from_version": null, "from_number": null, "release": null, "status": null, "rollback_type": null,
        "trigger": null, "surface": null, "reason": null, "requested_by": null, "forced": null,
        "rejected": null, "started_at": null, "completed_at": null, "duration_ms": null, "health": "unknown",
        "error_message": error, "warnings": [], "operation": null, "slot": null, "partial": null, "services": [],
        "restore_ms": null, "drill": null,
    })
}

/// `rollback --format json`.
#[must_use]
pub fn rollback(record: &RollbackRecord) -> Value {
    let mut value = serde_json::to_value(record).unwrap_or_else(|_| json!({ "id": record.id }));
    if let Some(fields) = value.as_object_mut() {
        let span_ms = span_ms(record.started_at, record.completed_at);
        fields.insert("duration_ms".to_owned(), json!(span_ms));
        fields.insert("partial".to_owned(), json!(!record.services.is_empty()));
        fields.insert("services".to_owned(), json!(record.services));
    }
    value
}

/// The record of a rollback as it stands in memory, steps included.
#[must_use]
pub fn rollback_of(operation: &Finished) -> Option<Value> {
    let mut record = operation.rows.rollback.clone()?;
    record.steps = step_records(&operation.plan, &operation.state);
    Some(rollback(&record))
}

/// The end of a deploy (or of any other operation), with the rollback inside if there was one.
#[must_use]
pub fn outcome(outcome: &Outcome, exit_code: u8) -> Value {
    let operation = outcome.operation();
    let back = match outcome {
        Outcome::Ended { then: Some(then), .. } => rollback_of(then.last().operation()),
        _ => None,
    };
    let mut row = operation.rows.deployment.clone();
    if let (Outcome::Ended { then: Some(then), .. }, Some(row)) = (outcome, row.as_mut())
        && let Some(left) = &then.operation().rows.left
        && left.number == row.number
    {
        *row = left.clone();
    }
    json!({
        "operation": operation.plan.operation, "kind": operation.plan.kind, "app": operation.plan.key.app,
        "environment": operation.plan.key.environment, "exit_code": exit_code,
        "deployment": row.as_ref().map(deployment),
        "steps": step_records(&operation.plan, &operation.state), "warnings": operation.state.warnings,
        "reason": reason(outcome), "rollback": back,
    })
}

fn reason(outcome: &Outcome) -> Option<String> {
    match outcome.last() {
        Outcome::Stuck { reason, .. } | Outcome::Lost { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}
