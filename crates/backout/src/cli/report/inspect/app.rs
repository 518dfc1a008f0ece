//! An app: its environments and their rollbacks.

use backout_core::ids::AppName;
use backout_core::model::{Deployment, RollbackRecord};
use backout_engine::incident::Bundle;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::incident;
use crate::cli::history::what;
use crate::cli::report::table::{Align, Fields, Table};
use crate::cli::report::text::{BOLD, Text, bad, good, of_health, of_status, terminal_width, warn};
use crate::cli::report::{json as documents, words};

/// One environment of the app.
pub struct AppPlace {
    /// As `status` has it.
    pub status: Value,
    /// As `status` prints it.
    pub lines: Vec<String>,
    /// Newest first.
    pub rollbacks: Vec<RollbackRecord>,
    /// What was kept of releases that were left, newest first.
    pub incidents: Vec<Bundle>,
    /// Newest first; only where histories were asked for.
    pub deployments: Vec<Deployment>,
}

/// The app as one document.
#[must_use]
pub fn app_document(app: &AppName, places: &[AppPlace]) -> Value {
    let environments: Vec<Value> = places
        .iter()
        .map(|place| {
            let mut document = place.status.clone();
            let rollbacks: Vec<Value> = place.rollbacks.iter().map(documents::rollback).collect();
            let incidents: Vec<Value> = place.incidents.iter().map(incident::in_short).collect();
            let history: Vec<Value> = place.deployments.iter().map(documents::deployment).collect();
            if let Some(fields) = document.as_object_mut() {
                fields.insert("rollbacks".to_owned(), json!(rollbacks));
                fields.insert("incidents".to_owned(), json!(incidents));
                fields.insert("history".to_owned(), json!(history));
            }
            document
        })
        .collect();
    json!({ "what": "app", "name": app, "app": app, "environments": environments })
}

/// The app for people.
#[must_use]
pub fn app_lines(places: &[AppPlace]) -> Vec<String> {
    let (now, width) = (Timestamp::now(), terminal_width());
    let mut lines = Vec::new();
    for place in places {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(place.lines.iter().cloned());
        if !place.rollbacks.is_empty() {
            lines.push(Text::from("  ").and(BOLD, "rollbacks").styled());
            lines.extend(rollback_table(&place.rollbacks, now).render(4, width, false));
        }
        if !place.incidents.is_empty() {
            lines.push(Text::from("  ").and(BOLD, "incident bundles").styled());
            lines.extend(incident::list(&place.incidents, now).render(4, width, false));
        }
        if !place.deployments.is_empty() {
            lines.push(Text::from("  ").and(BOLD, "deployments").styled());
            lines.extend(deployment_table(&place.deployments, now).render(4, width, false));
        }
    }
    lines
}

fn deployment_table(rows: &[Deployment], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("#", Align::Right),
        ("VERSION", Align::Left),
        ("STATUS", Align::Left),
        ("AGE", Align::Right),
        ("WHAT", Align::Left),
    ]);
    for row in rows {
        table.row([
            Text::from(row.number.to_string()),
            Text::new(BOLD, row.version.as_str()),
            Text::new(of_status(row.status), row.status.as_str()),
            Text::from(words::short_age(row.started_at, now)),
            what(row),
        ]);
    }
    table
}

/// Rollbacks, one a line.
#[must_use]
pub fn rollback_table(records: &[RollbackRecord], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("#", Align::Right),
        ("FROM", Align::Left),
        ("TO", Align::Left),
        ("STATUS", Align::Left),
        ("AGE", Align::Right),
        ("TOOK", Align::Right),
        ("WHY", Align::Left),
    ]);
    for record in records {
        let from = record.from_version.as_ref().map(ToString::to_string).unwrap_or_default();
        let took = record.duration_ms.map(words::duration).unwrap_or_default();
        let why = record.reason.clone().or_else(|| record.evidence.first().cloned());
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        table.row([
            Text::from(record.deployment_to.to_string()),
            Text::from(from),
            Text::new(BOLD, record.target_version.as_str()),
            Text::new(of_rollback(record), record.status.as_str()),
            Text::from(words::short_age(record.started_at, now)),
            Text::from(took),
            Text::from(format!("{}, {}{why}", record.rollback_type, record.trigger)),
        ]);
    }
    table
}

fn of_rollback(record: &RollbackRecord) -> clap::builder::styling::Style {
    use backout_core::model::RollbackStatus;
    match record.status {
        RollbackStatus::Completed => good(),
        RollbackStatus::Pending | RollbackStatus::InProgress => warn(),
        RollbackStatus::Failed | RollbackStatus::Stuck => bad(),
    }
}

/// One rollback, whole.
#[must_use]
pub fn rollback_fields(record: &RollbackRecord, now: Timestamp) -> Fields {
    let mut fields = Fields::default();
    let from = record.from_version.as_ref().map(ToString::to_string).unwrap_or_default();
    let number = record.deployment_from.map(|n| format!("#{n} ")).unwrap_or_default();
    fields.add("from", format!("{number}{from}"));
    fields.add("to", format!("#{} {}", record.deployment_to, record.target_version));
    let kind = format!("{}, {} ({})", record.rollback_type, record.trigger, record.surface);
    fields.add("type", kind);
    if !record.services.is_empty() {
        let names: Vec<&str> = record.services.iter().map(|name| name.as_str()).collect();
        fields.add("services", format!("only {}", names.join(", ")));
    }
    fields.add("status", Text::new(of_rollback(record), record.status.as_str()));
    fields.add("asked by", record.requested_by.as_str());
    let new = |reason: &&String| !record.evidence.contains(reason);
    fields.add_some("reason", record.reason.as_ref().filter(new));
    fields.add("began", words::moment(record.started_at, now));
    fields.add_some(
        "users safe",
        record.traffic_safe_at.map(|at| format!("after {}", words::span(record.started_at, at))),
    );
    fields.add_some("took", record.duration_ms.map(words::duration));
    if !record.changes_reverted.is_empty() {
        fields.add("reverted", record.changes_reverted.join(", "));
    }
    if !record.resources_deleted.is_empty() {
        fields.add("removed", record.resources_deleted.join(", "));
    }
    let mut health = Text::default();
    for (service, one) in &record.health {
        health = health.then(format!("{service} ")).and(of_health(*one), one.as_str()).then("  ");
    }
    if !health.is_empty() {
        fields.add("health", health);
    }
    if !record.overrides.is_empty() {
        fields.add("overrides", record.overrides.join(", "));
    }
    fields.add("data", if record.data_preserved { "left as it is" } else { "restored" });
    fields.add(
        "told",
        if record.notification_sent { "notification sent" } else { "nobody was notified" },
    );
    fields.add_some("error", record.error_message.as_ref().map(|why| Text::new(bad(), why)));
    fields
}
