//! The plan linter: a second pair of eyes over the planners. The engine refuses a plan that fails it.

use std::collections::BTreeSet;

use super::step::{Action, Nature, Plan, WatchMode};
use crate::model::OperationKind;

/// Everything that is wrong with a plan; empty for every plan that the planners make.
#[must_use]
pub fn lint(plan: &Plan) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut keys = BTreeSet::new();
    let mut past_pivot = false;
    for step in &plan.steps {
        if !keys.insert(step.key.as_str()) {
            wrong.push(format!("two steps have the key {}", step.key));
        }
        if step.max_attempts == 0 || step.timeout_ms == 0 {
            wrong.push(format!("{} has no limit", step.key));
        }
        if past_pivot && step.nature != Nature::Retriable {
            wrong.push(format!("{} goes back after the pivot", step.key));
        }
        past_pivot |= step.nature == Nature::Pivot;
        let undoable = step.compensation.is_some();
        let leaves_something = matches!(step.action, Action::Start { .. } | Action::Stop { .. });
        if leaves_something && !undoable {
            wrong.push(format!("{} has no way back", step.key));
        }
    }
    if plan.kind == OperationKind::Deploy {
        wrong.extend(traffic_before_ready(plan));
        if !plan.steps.iter().any(|step| step.nature == Nature::Pivot) {
            wrong.push("a deploy without a pivot".to_owned());
        }
    }
    if plan.live_at.is_some_and(|index| index >= plan.steps.len()) {
        wrong.push("live_at is past the last step".to_owned());
    }
    wrong
}

/// A new side must be proven ready before it gets its first request.
fn traffic_before_ready(plan: &Plan) -> Option<String> {
    let ready = plan
        .steps
        .iter()
        .position(|s| matches!(s.action, Action::Watch { mode: WatchMode::Ready { .. }, .. }));
    let traffic =
        plan.steps.iter().position(|s| matches!(&s.action, Action::SetTraffic(t) if t.percent > 0));
    match (ready, traffic) {
        (None, _) => Some("a deploy that never checks whether the new side is ready".to_owned()),
        (Some(ready), Some(traffic)) if traffic < ready => {
            Some("traffic before the side is ready".to_owned())
        }
        _ => None,
    }
}
