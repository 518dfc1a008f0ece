//! How long a step took, as the journal has it.

use std::process::Command;

use serde_json::Value;

use super::compose::json;
use crate::Outcome;

/// What a step took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    /// Its effect, once its intent was durable: by its receipt.
    pub effect_ms: f64,
    /// From the time of its intent, before that is committed, to that of its outcome.
    pub span_ms: f64,
}

/// Of the operation that `answer` tells about; `call` makes a command of Backout.
pub(super) fn in_step(
    answer: &Value,
    step: &str,
    call: impl Fn(&[&str]) -> Command,
) -> Outcome<Spent> {
    let id = answer["id"].as_str().ok_or(format!("no id in {answer}"))?;
    let told = json(call(&["inspect", id, "--show-history", "--format", "json"]))?;
    read(&told, step).ok_or(format!("no step `{step}` in {told}"))
}

fn read(told: &Value, step: &str) -> Option<Spent> {
    let steps = told["operation"]["steps"].as_array()?;
    let at = steps.iter().position(|it| it["name"] == step)?;
    let entry = |kind: &str| {
        told["journal"].as_array()?.iter().find(|entry| entry["kind"][kind]["step"] == at)
    };
    let time = |entry: &Value| seconds_of_day(entry["at"].as_str()?);
    let done = entry("step_done")?;
    let span = time(done)? - time(entry("step_started")?)?;
    Some(Spent {
        effect_ms: done["kind"]["step_done"]["receipt"]["took_us"].as_f64()? / 1000.0,
        span_ms: 1000.0 * if span < 0.0 { span + 86_400.0 } else { span },
    })
}

/// Of a time such as `2026-11-20T10:00:00.123456Z`.
fn seconds_of_day(time: &str) -> Option<f64> {
    let mut parts = time.split_once('T')?.1.trim_end_matches('Z').split(':');
    let mut next = || parts.next()?.parse::<f64>().ok();
    Some(next()? * 3600.0 + next()? * 60.0 + next()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::read;

    #[test]
    fn a_span_is_read_to_the_microsecond() {
        let entry = |at: &str, kind: &str, step: usize| json!({ "at": at, "kind": { kind: { "step": step } } });
        let told = |began: &str, ended: &str| {
            let mut done = entry(ended, "step_done", 1);
            done["kind"]["step_done"]["receipt"] = json!({ "took_us": 875 });
            json!({
                "operation": { "steps": [{ "name": "snapshot" }, { "name": "start" }] },
                "journal": [
                    entry("2026-11-20T10:00:00Z", "step_started", 0),
                    entry(began, "step_started", 1),
                    done,
                ],
            })
        };
        let spent = |began, ended| read(&told(began, ended), "start").unwrap();
        let one = spent("2026-11-20T10:00:00.0005Z", "2026-11-20T10:00:00.001625Z");
        assert!(
            (one.span_ms - 1.125).abs() < 1e-6 && (one.effect_ms - 0.875).abs() < 1e-9,
            "{one:?}"
        );
        let over = spent("2026-11-20T23:59:59.999Z", "2026-11-21T00:00:00.001Z");
        assert!((over.span_ms - 2.0).abs() < 1e-6, "{over:?}");
        assert!(read(&json!({}), "start").is_none());
    }
}
