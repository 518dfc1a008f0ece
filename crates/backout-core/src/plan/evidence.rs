//! The step that keeps an incident bundle of what is left.

use super::builder::Builder;
use super::situation::{PlanContext, Situation};
use super::step::{Action, Live, Nature, Phase, Step};

/// One try, and one more by whoever goes on after a holder that died at it.
const ATTEMPTS: u32 = 2;
/// Users are safe already.
const AFTER_TRAFFIC_MS: u64 = 10_000;
/// Users wait for what comes next.
const BEFORE_START_MS: u64 = 5_000;
/// Beyond the limit of collecting, milliseconds.
const MARGIN_MS: u64 = 5_000;

/// Where in a plan evidence is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Traffic has moved; nothing of what is left was stopped yet.
    AfterTraffic,
    /// What is left goes before anything else can start.
    BeforeStart,
}

impl Builder<'_> {
    /// Keeps evidence of what is left: its last logs, its state, why, and what differed. Nothing waits for it
    /// for long, and nothing depends on it.
    pub(super) fn keep_evidence(
        &mut self,
        cx: &PlanContext<'_>,
        situation: &Situation,
        left: Option<&Live>,
        moment: Moment,
    ) {
        let Some(left) = left else { return };
        let holding = situation.slots.iter().find(|(_, side)| side.deployment == left.number);
        let limit_ms = match moment {
            Moment::AfterTraffic => AFTER_TRAFFIC_MS,
            Moment::BeforeStart => BEFORE_START_MS,
        };
        self.steps.push(Step {
            key: format!("{:02}-keep_evidence/-", self.steps.len()),
            name: "keep_evidence".to_owned(),
            phase: Phase::Data,
            subject: cx.key.to_string(),
            before: format!("logs and state of #{} {} where they are", left.number, left.version),
            after: "an incident bundle".to_owned(),
            action: Action::KeepEvidence {
                slot: holding.map_or(left.slot, |(slot, _)| *slot),
                release: left.release.clone(),
                deployment: left.number,
                limit_ms,
            },
            compensation: None,
            nature: Nature::Retriable,
            timeout_ms: limit_ms + MARGIN_MS,
            max_attempts: ATTEMPTS,
            wave: None,
        });
    }
}
