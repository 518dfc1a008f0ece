//! "Never send traffic to a side that is not known healthy": the check before a traffic move.

use std::sync::Mutex;
use std::time::Duration;

use backout_core::ids::{EnvironmentKey, Slot};
use backout_core::model::{EnvironmentRecord, SlotRecord};
use backout_core::plan::{Action, Plan, Step};
use backout_core::ports::{AdapterError, ProbeSubject, SampleOutcome};
use tokio::time::Instant;

use crate::commands::health::wrong_version;
use crate::context::Context;
use crate::journal::Journal;
use crate::sides;
use crate::situation;

/// Sides that a watch in this process saw healthy, and when: a fresh local fact spares a probe at rollback.
static SEEN_HEALTHY: Mutex<Vec<(EnvironmentKey, Slot, u64, Instant)>> = Mutex::new(Vec::new());

/// One probe of the gate may take this long.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// Remembers that a side passed its checks just now.
pub(crate) fn saw_healthy(key: &EnvironmentKey, slot: Slot, deployment: u64) {
    let mut seen = SEEN_HEALTHY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    seen.retain(|(k, s, ..)| k != key || *s != slot);
    seen.push((key.clone(), slot, deployment, Instant::now()));
}

/// Forgets a side that failed a check.
pub(crate) fn saw_unhealthy(key: &EnvironmentKey, slot: Slot) {
    let mut seen = SEEN_HEALTHY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    seen.retain(|(k, s, ..)| k != key || *s != slot);
}

fn is_fresh(cx: &Context, slot: Slot, deployment: u64) -> bool {
    let seen = SEEN_HEALTHY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    seen.iter().any(|(k, s, d, at)| {
        *k == cx.key && *s == slot && *d == deployment && at.elapsed() <= cx.fresh_for(true)
    })
}

/// Passes if every service that serves in `slot` is known healthy: seen so a moment ago, or probed now.
///
/// # Errors
/// Transient, with what the probe saw.
pub(crate) async fn require_healthy(
    cx: &Context,
    journal: &Journal,
    slot: Slot,
) -> Result<(), AdapterError> {
    let Some(record) = journal.rows.environment.slots.get(&slot) else {
        return Err(AdapterError::permanent(format!(
            "failed to move traffic: slot {slot} holds nothing"
        )));
    };
    if is_fresh(cx, slot, record.deployment) {
        return Ok(());
    }
    probe(cx, record, slot).await
}

/// The warm side that a plan goes back to: it need not be started before it gets users.
fn warm_side(plan: &Plan) -> Option<Slot> {
    let moved = |step: &Step| match &step.action {
        Action::SetTraffic(traffic) if traffic.gate => sides::gaining(traffic),
        _ => None,
    };
    let at = plan.steps.iter().position(|step| moved(step).is_some())?;
    let slot = moved(&plan.steps[at])?;
    let starts =
        |step: &Step| matches!(step.action, Action::Start { slot: started, .. } if started == slot);
    (!plan.steps[..at].iter().any(starts)).then_some(slot)
}

/// Probes the warm side that a plan goes back to, so that the move itself need not wait for that: only what was seen a
/// moment ago opens the gate. What does not pass is left to the gate.
pub(crate) async fn look_ahead(cx: &Context, plan: &Plan, environment: &EnvironmentRecord) {
    let Some(slot) = warm_side(plan) else { return };
    let Some(record) = environment.slots.get(&slot) else { return };
    let probed = tokio::time::timeout(PROBE_LIMIT, probe(cx, record, slot)).await;
    if matches!(probed, Ok(Ok(()))) {
        saw_healthy(&cx.key, slot, record.deployment);
    }
}

/// Somebody else was at work since [`look_ahead`].
pub(crate) fn forget(cx: &Context, plan: &Plan) {
    if let Some(slot) = warm_side(plan) {
        saw_unhealthy(&cx.key, slot);
    }
}

async fn probe(cx: &Context, record: &SlotRecord, slot: Slot) -> Result<(), AdapterError> {
    let release = situation::release(cx, &record.release)
        .await
        .map_err(|error| AdapterError::transient(error.to_string()))?;
    for service in release.content.services.values().filter(|service| service.traffic) {
        let unit = situation::unit(cx, &service.name, slot);
        let observed = situation::observe(cx, &unit, Some(&release)).await;
        let version = release.content.version_of(&service.name);
        for plan in cx.probes.for_unit(&unit, service) {
            let subject = ProbeSubject {
                unit: unit.clone(),
                address: observed.address,
                version: version.clone(),
                release: release.runs_as(&service.name).clone(),
                timeout: PROBE_LIMIT.min(Duration::from_millis(plan.schedule.timeout_ms)),
                retries: 0,
            };
            let refusal = match plan.probe.check(&subject).await {
                Ok(sample) => match (wrong_version(&sample, version.as_str()), sample.outcome) {
                    (Some(wrong), _) => wrong,
                    (None, SampleOutcome::Pass | SampleOutcome::Warn(_)) => continue,
                    (None, SampleOutcome::Fail(why) | SampleOutcome::NotReady(why)) => why,
                },
                Err(error) => error.to_string(),
            };
            return Err(AdapterError::transient(format!(
                "refused to send traffic to slot {slot} ({}): {} of {} does not pass: {refusal}",
                record.version,
                plan.probe.name(),
                service.name,
            )));
        }
    }
    Ok(())
}
