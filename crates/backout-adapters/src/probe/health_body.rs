//! The JSON body of a health endpoint.

use backout_core::ports::SampleOutcome;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// What a body says of health.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthBody {
    /// `status`, or a pass if there is none.
    pub outcome: SampleOutcome,
    /// Percent.
    pub error_rate: Option<f64>,
    /// Percent.
    pub availability: Option<f64>,
    /// Milliseconds.
    pub response_time_ms: Option<f64>,
    /// The version that answers.
    pub version: Option<String>,
    /// When it was measured.
    pub timestamp: Option<Timestamp>,
}

/// Longest text that is taken from a body into a message.
const MAX_TEXT: usize = 120;

/// Reads the body of a good answer. One that is no JSON object passes, unless fields are required.
#[must_use]
pub fn read_health_body(body: &[u8], whole: bool, required_fields: &[String]) -> HealthBody {
    let fields: Option<Map<String, Value>> =
        if whole { serde_json::from_slice(body).ok() } else { None };
    let Some(fields) = fields else {
        let outcome = match required_fields.first() {
            None => SampleOutcome::Pass,
            Some(field) if whole => SampleOutcome::Fail(format!(
                "the body is no JSON object, so the field `{field}` is missing"
            )),
            Some(field) => SampleOutcome::Fail(format!(
                "the body is longer than 1 MiB, so the field `{field}` was not read"
            )),
        };
        return HealthBody {
            outcome,
            error_rate: None,
            availability: None,
            response_time_ms: None,
            version: None,
            timestamp: None,
        };
    };
    let number = |name: &str| {
        fields.get(name).and_then(Value::as_f64).filter(|n| n.is_finite() && *n >= 0.0)
    };
    HealthBody {
        outcome: outcome(&fields, required_fields),
        error_rate: number("error_rate"),
        availability: number("availability"),
        response_time_ms: number("response_time"),
        version: fields.get("version").and_then(Value::as_str).map(short),
        timestamp: fields.get("timestamp").and_then(Value::as_str).and_then(|t| t.parse().ok()),
    }
}

fn outcome(fields: &Map<String, Value>, required: &[String]) -> SampleOutcome {
    if let Some(field) = required.iter().find(|field| !has(fields, field)) {
        return SampleOutcome::Fail(format!("the body has no field `{field}`"));
    }
    let Some(status) = fields.get("status").and_then(Value::as_str) else {
        return SampleOutcome::Pass;
    };
    match status.to_ascii_lowercase().as_str() {
        "healthy" | "ok" | "up" | "pass" => SampleOutcome::Pass,
        "degraded" | "warn" | "warning" => {
            SampleOutcome::Warn(format!("its status is `{}`", short(status)))
        }
        "unhealthy" | "down" | "fail" | "failing" | "error" => {
            SampleOutcome::Fail(format!("its status is `{}`", short(status)))
        }
        _ => SampleOutcome::Warn(format!(
            "its status `{}` is none of healthy, degraded, unhealthy",
            short(status)
        )),
    }
}

/// A field by name, or by dotted path.
fn has(fields: &Map<String, Value>, path: &str) -> bool {
    let present = |value: &Value| !value.is_null();
    if fields.get(path).is_some_and(present) {
        return true;
    }
    path.split_once('.').is_some_and(|(first, rest)| {
        fields.get(first).and_then(Value::as_object).is_some_and(|inner| has(inner, rest))
    })
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> HealthBody {
        read_health_body(body.as_bytes(), true, &[])
    }

    #[test]
    fn reads_all_fields() {
        let body = of(
            r#"{"status":"healthy","version":"1.4.2","error_rate":1.5,"availability":99.5,"response_time":150,"timestamp":"2026-11-20T10:00:00Z"}"#,
        );
        assert_eq!(body.outcome, SampleOutcome::Pass);
        assert_eq!(
            (body.error_rate, body.availability, body.response_time_ms),
            (Some(1.5), Some(99.5), Some(150.0))
        );
        assert_eq!(body.version.as_deref(), Some("1.4.2"));
        assert_eq!(body.timestamp, Some("2026-11-20T10:00:00Z".parse().unwrap()));
    }

    #[test]
    fn words_decide_and_other_bodies_pass() {
        assert!(matches!(of(r#"{"status":"unhealthy"}"#).outcome, SampleOutcome::Fail(_)));
        assert!(matches!(of(r#"{"status":"Degraded"}"#).outcome, SampleOutcome::Warn(_)));
        assert!(matches!(of(r#"{"status":"banana"}"#).outcome, SampleOutcome::Warn(_)));
        for plain in ["OK", "", "[1]", "{\"a\":1}", "{\"status\":200}", "{broken"] {
            assert_eq!(of(plain).outcome, SampleOutcome::Pass, "{plain}");
        }
        assert_eq!(of(r#"{"error_rate":-1,"availability":"99"}"#).error_rate, None);
    }

    #[test]
    fn required_fields_fail_by_name() {
        let required = ["db.connected".to_owned()];
        let read = |body: &str, whole| read_health_body(body.as_bytes(), whole, &required).outcome;
        assert_eq!(read(r#"{"db":{"connected":false}}"#, true), SampleOutcome::Pass);
        for (body, whole) in [
            (r#"{"db":{}}"#, true),
            (r#"{"db":{"connected":null}}"#, true),
            ("OK", true),
            ("{", false),
        ] {
            assert!(
                matches!(read(body, whole), SampleOutcome::Fail(m) if m.contains("db.connected")),
                "{body}"
            );
        }
    }
}
