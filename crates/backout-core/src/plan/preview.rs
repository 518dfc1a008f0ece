//! A plan as people and `--dry-run` see it.

use serde::Serialize;

use super::step::Plan;
use crate::model::{ReadinessCheck, Severity};

/// One line of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewStep {
    /// Its name.
    pub name: String,
    /// What it is done to.
    pub subject: String,
    /// State before.
    pub before: String,
    /// State after.
    pub after: String,
}

/// One safety check of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewCheck {
    /// Its name.
    pub name: String,
    /// `warning` or `error`: what it means if it does not pass.
    pub severity: &'static str,
    /// Whether it passes.
    pub passed: bool,
    /// Why.
    pub message: String,
}

impl From<&ReadinessCheck> for PreviewCheck {
    fn from(check: &ReadinessCheck) -> Self {
        Self {
            name: check.name.clone(),
            severity: if check.status == Severity::Warning { "warning" } else { "error" },
            passed: check.status == Severity::Pass,
            message: check.message.clone(),
        }
    }
}

/// The steps of a plan, for people.
#[must_use]
pub fn preview(plan: &Plan) -> Vec<PreviewStep> {
    plan.steps
        .iter()
        .map(|step| PreviewStep {
            name: step.name.clone(),
            subject: step.subject.clone(),
            before: step.before.clone(),
            after: step.after.clone(),
        })
        .collect()
}
