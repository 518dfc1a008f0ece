//! The plan by which Backout lets an environment go: what runs goes on without it.

use super::builder::Builder;
use super::situation::PlanContext;
use super::step::{Action, Live, Nature, Phase, Plan, Step};
use crate::ids::{ReleaseId, Slot};
use crate::model::OperationKind;

const ATTEMPTS: u32 = 4;
const TIMEOUT_MS: u64 = 10 * 60_000;

/// Makes the plan that removes what is ours and touches nothing that runs. `known` names what was deployed last.
#[must_use]
pub fn plan_eject(
    cx: &PlanContext<'_>,
    live: Option<Live>,
    (release, slot): (&ReleaseId, Slot),
) -> Plan {
    let mut b = Builder::new(cx, Nature::Retriable);
    b.steps.push(Step {
        key: "00-let_go/-".to_owned(),
        name: "let_go".to_owned(),
        phase: Phase::Stop,
        subject: cx.key.to_string(),
        before: "marks, references and copies of Backout's own".to_owned(),
        after: "none; what runs goes on".to_owned(),
        action: Action::LetGo { slot, release: release.clone() },
        compensation: None,
        nature: Nature::Retriable,
        timeout_ms: TIMEOUT_MS,
        max_attempts: ATTEMPTS,
        wave: None,
    });
    let mut plan = cx.plan(OperationKind::Eject, live, slot, b.steps);
    plan.deployment = None;
    plan.deployment_id = None;
    plan
}
