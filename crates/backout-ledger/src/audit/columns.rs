//! Columns that queries need repeat what a record's text says. An edit may change one and not the other.

use backout_core::ports::audit::AuditKind;
use jiff::Timestamp;
use serde_json::Value;

/// Columns of the tables behind a kind, and where in the record's text the same stands.
pub(crate) fn of(kind: AuditKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        AuditKind::Environment => &[("app", "/key/app"), ("environment", "/key/environment")],
        AuditKind::Plan => &[
            ("id", "/operation"),
            ("app", "/key/app"),
            ("environment", "/key/environment"),
            ("kind", "/kind"),
        ],
        AuditKind::Entry => &[("epoch", "/epoch"), ("at", "/at")],
        AuditKind::Release => &[
            ("id", "/id"),
            ("app", "/content/app"),
            ("version", "/content/version"),
            ("created_at", "/created_at"),
        ],
        AuditKind::Deployment => &[
            ("app", "/key/app"),
            ("environment", "/key/environment"),
            ("number", "/number"),
            ("id", "/id"),
            ("kind", "/kind"),
            ("release", "/release"),
            ("version", "/version"),
            ("status", "/status"),
            ("rejected", "/rejected"),
            ("started_at", "/started_at"),
            ("started_at_ns", "/started_at"),
        ],
        AuditKind::Rollback => &[
            ("id", "/id"),
            ("app", "/app"),
            ("environment", "/environment"),
            ("deployment_to", "/deployment_to"),
            ("status", "/status"),
        ],
        AuditKind::Request => &[
            ("id", "/id"),
            ("app", "/key/app"),
            ("environment", "/key/environment"),
            ("operation", "/operation"),
            ("kind", "/kind"),
        ],
        AuditKind::Ledger | AuditKind::Close | AuditKind::Answer | AuditKind::Note => &[],
    }
}

/// What the first column that differs says, and what the text says. `columns` are the texts of the columns of
/// [`of`], in its order. A text that is no JSON is not this check's business: its digest tells.
pub(crate) fn odd(kind: AuditKind, json: &str, columns: &[String]) -> Option<String> {
    let record: Value = serde_json::from_str(json).ok()?;
    of(kind).iter().zip(columns).find_map(|((name, pointer), column)| {
        let value = record.pointer(pointer)?;
        let text = match value {
            Value::String(text) if name.ends_with("_ns") => {
                text.parse::<Timestamp>().ok()?.as_nanosecond().to_string()
            }
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (text != *column).then(|| format!("its column {name} says `{column}`, its record `{text}`"))
    })
}
