//! What the journal's facts mean for the rows that users see. Pure: the engine commits the result
//! together with the entries.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::entry::{Ending, Entry, EntryKind};
use super::fold::{State, StepPhase};
use crate::model::{
    DRILLS_MAX, Deployment, DeploymentKind, DeploymentStatus, DrillRecord, EnvironmentRecord,
    Health, OperationKind, RollbackRecord, RollbackStatus, SlotRecord, SlotState, StepRecord,
    Trigger,
};
use crate::plan::{Action, Live, Plan};
use crate::ports::{Change, OutboxMessage};

/// The rows of an operation as they stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// The environment.
    pub environment: EnvironmentRecord,
    /// The deployment that is made.
    pub deployment: Option<Deployment>,
    /// The deployment that is left.
    pub left: Option<Deployment>,
    /// The rollback record that is made.
    pub rollback: Option<RollbackRecord>,
}

impl Opening {
    /// All rows as changes.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let mut changes = vec![Change::Environment(Box::new(self.environment.clone()))];
        changes.extend(self.deployment.iter().map(|row| Change::Deployment(Box::new(row.clone()))));
        changes.extend(self.left.iter().map(|row| Change::Deployment(Box::new(row.clone()))));
        changes.extend(self.rollback.iter().map(|row| Change::Rollback(Box::new(row.clone()))));
        changes
    }
}

/// The rows as an operation begins.
#[must_use]
pub fn opening(
    plan: &Plan,
    environment: &EnvironmentRecord,
    left: Option<Deployment>,
    folder: &str,
) -> Opening {
    let mut environment = environment.clone();
    environment.folder = Some(folder.to_owned());
    if let Some(number) = plan.deployment {
        environment.next_number = environment.next_number.max(number + 1);
    }
    let left = left.map(|mut row| {
        row.rejected |= plan.reject_left;
        row
    });
    Opening { environment, deployment: new_deployment(plan), left, rollback: new_rollback(plan) }
}

fn new_deployment(plan: &Plan) -> Option<Deployment> {
    let kind = match plan.kind {
        OperationKind::Deploy => DeploymentKind::Deploy,
        OperationKind::Rollback => DeploymentKind::Rollback,
        OperationKind::Adopt => DeploymentKind::Adopt,
        OperationKind::Down | OperationKind::Drill | OperationKind::Eject => return None,
    };
    let before = plan.left.as_ref().or(plan.from.as_ref());
    Some(Deployment {
        id: plan.deployment_id.clone()?,
        key: plan.key.clone(),
        number: plan.deployment?,
        kind,
        release: plan.release.clone()?,
        version: plan.version.clone()?,
        from_version: before.map(|live| live.version.clone()),
        from_number: before.map(|live| live.number),
        status: DeploymentStatus::InProgress,
        rejected: false,
        slot: plan.slot,
        rollback_type: plan.rollback_type,
        trigger: plan.trigger,
        surface: plan.surface,
        reason: plan.reason.clone(),
        requested_by: plan.requested_by.clone(),
        forced: plan.forced,
        operation: plan.operation.clone(),
        started_at: plan.planned_at,
        completed_at: None,
        stable_at: None,
        health: Health::Unknown,
        error_message: None,
        warnings: plan.warnings.clone(),
        services: plan.services.clone(),
    })
}

fn new_rollback(plan: &Plan) -> Option<RollbackRecord> {
    let before = plan.left.as_ref().or(plan.from.as_ref());
    Some(RollbackRecord {
        id: plan.rollback_id.clone()?,
        key: plan.key.clone(),
        operation: plan.operation.clone(),
        deployment_from: before.map(|live| live.number),
        deployment_to: plan.deployment?,
        from_version: before.map(|live| live.version.clone()),
        target_version: plan.version.clone()?,
        rollback_type: plan.rollback_type?,
        services: plan.services.clone(),
        trigger: plan.trigger.unwrap_or(Trigger::Manual),
        surface: plan.surface,
        status: RollbackStatus::InProgress,
        reason: plan.reason.clone(),
        requested_by: plan.requested_by.clone(),
        forced: plan.forced,
        overrides: plan.overrides.clone(),
        resources_deleted: Vec::new(),
        previous_state_version: before.map(|live| live.number),
        changes_reverted: Vec::new(),
        data_preserved: true,
        health: BTreeMap::new(),
        steps: Vec::new(),
        evidence: plan.evidence.clone(),
        warnings: plan.warnings.clone(),
        error_message: None,
        started_at: plan.planned_at,
        traffic_safe_at: None,
        completed_at: None,
        duration_ms: None,
        created_at: plan.planned_at,
        updated_at: plan.planned_at,
        notification_sent: false,
    })
}

/// Brings the rows up to date with one more entry. Returns whether any changed.
pub fn on_progress(plan: &Plan, rows: &mut Opening, entry: &Entry) -> bool {
    let before = rows.clone();
    match &entry.kind {
        EntryKind::StepStarted { step, .. } => slot_intent(plan, rows, *step),
        EntryKind::StepDone { step, .. } => {
            slot_outcome(plan, rows, *step);
            if plan.live_at == Some(*step) {
                rows.environment.live = plan.deployment;
                let is_deploy = plan.kind == OperationKind::Deploy;
                if let (Some(row), true) = (&mut rows.deployment, is_deploy) {
                    row.status = DeploymentStatus::Baking;
                }
            }
        }
        EntryKind::TrafficSafe => {
            if let Some(rollback) = &mut rows.rollback {
                rollback.traffic_safe_at = rollback.traffic_safe_at.or(Some(entry.at));
            }
        }
        EntryKind::Stuck { reason, .. } => {
            if let Some(row) = &mut rows.deployment {
                row.status = DeploymentStatus::Stuck;
                row.error_message = Some(reason.clone());
            }
            if let Some(rollback) = &mut rows.rollback {
                rollback.status = RollbackStatus::Stuck;
                rollback.error_message = Some(reason.clone());
                rollback.updated_at = entry.at;
            }
        }
        EntryKind::Requested { kind: crate::model::RequestKind::Retry, .. }
        | EntryKind::Claimed { .. } => {
            unstick(plan, rows);
        }
        EntryKind::Failing { failure } => {
            if let Some(row) = &mut rows.deployment {
                row.rejected |= failure.release_is_bad;
                row.error_message = Some(failure.evidence.join("; "));
            }
        }
        _ => {}
    }
    *rows != before
}

fn unstick(plan: &Plan, rows: &mut Opening) {
    let is_live = rows.environment.live == plan.deployment;
    if let Some(row) = rows.deployment.as_mut().filter(|row| row.status == DeploymentStatus::Stuck)
    {
        let bakes = is_live && plan.kind == OperationKind::Deploy;
        row.status = if bakes { DeploymentStatus::Baking } else { DeploymentStatus::InProgress };
        row.error_message = None;
    }
    if let Some(row) = rows.rollback.as_mut().filter(|row| row.status == RollbackStatus::Stuck) {
        row.status = RollbackStatus::InProgress;
    }
}

fn slot_intent(plan: &Plan, rows: &mut Opening, step: usize) {
    let slots = &mut rows.environment.slots;
    match &plan.steps[step].action {
        Action::Start { service, host, slot, release, deployment, .. } => {
            let version = plan.version.clone().filter(|_| plan.release.as_ref() == Some(release));
            let old = slots.get(slot);
            let kept = old.filter(|record| record.release == *release);
            let version = version.or_else(|| kept.map(|record| record.version.clone()));
            let Some(version) = version else { return };
            // A start in place replaces one service on one host: the others of the release before it still run.
            let mut record = SlotRecord {
                deployment: *deployment,
                release: release.clone(),
                version,
                state: SlotState::Starting,
                services: old.map(|record| record.services.clone()).unwrap_or_default(),
                hosts: old.map(|record| record.hosts.clone()).unwrap_or_default(),
            };
            record.place(service, host);
            slots.insert(*slot, record);
        }
        Action::Stop { slot, .. } => {
            if let Some(record) = slots.get_mut(slot) {
                record.state = SlotState::Stopping;
            }
        }
        Action::SetTraffic(_) | Action::EnsureRouter => rows.environment.routed = true,
        // Where nothing had to start for the release, nothing has said before that it is what runs there.
        Action::Watch { .. } if plan.live_at == Some(step) => {
            let of = plan.release.as_ref().zip(plan.version.as_ref());
            if let (Some(record), Some((release, version))) = (slots.get_mut(&plan.slot), of) {
                record.release = release.clone();
                record.version = version.clone();
            }
        }
        _ => {}
    }
}

fn slot_outcome(plan: &Plan, rows: &mut Opening, step: usize) {
    let slots = &mut rows.environment.slots;
    match &plan.steps[step].action {
        Action::Start { slot, .. } => {
            if let Some(record) = slots.get_mut(slot) {
                record.state = SlotState::Running;
            }
        }
        Action::Stop { slot, service, host, .. } => {
            if let Some(record) = slots.get_mut(slot) {
                record.clear(service, host);
                record.state = SlotState::Running;
                if record.services.is_empty() {
                    slots.remove(slot);
                }
            }
        }
        // The slot now runs for the deployment that this operation makes.
        Action::SetTraffic(_) if plan.live_at == Some(step) => adopt_slot(plan, slots),
        Action::Watch { .. } if plan.live_at == Some(step) => adopt_slot(plan, slots),
        Action::RemoveRoute => rows.environment.routed = false,
        _ => {}
    }
}

fn adopt_slot(plan: &Plan, slots: &mut BTreeMap<crate::ids::Slot, SlotRecord>) {
    if let (Some(record), Some(number)) = (slots.get_mut(&plan.slot), plan.deployment) {
        record.deployment = number;
    }
}

/// Brings the rows to the end of an operation, with what is to be told.
pub fn on_end(
    plan: &Plan,
    state: &State,
    rows: &mut Opening,
    ending: &Ending,
    health: &BTreeMap<String, Health>,
    now: Timestamp,
) -> Vec<OutboxMessage> {
    match plan.kind {
        OperationKind::Deploy | OperationKind::Adopt => end_deploy(plan, state, rows, ending, now),
        OperationKind::Rollback => end_rollback(plan, rows, ending, now),
        OperationKind::Down => end_down(plan, rows, ending, now),
        OperationKind::Drill => end_drill(plan, state, rows),
        OperationKind::Eject => end_eject(state, rows, ending),
    }
    if matches!(plan.kind, OperationKind::Rollback | OperationKind::Down) {
        close_left(&mut rows.left, ending, now);
    }
    let overall = overall(ending, health);
    if let Some(row) = &mut rows.deployment {
        row.health = overall;
        row.warnings.extend(state.warnings.iter().cloned());
    }
    if let Some(rollback) = &mut rows.rollback {
        rollback.steps = step_records(plan, state);
        rollback.health.clone_from(health);
        rollback.warnings.extend(state.warnings.iter().cloned());
        rollback.changes_reverted = changes_reverted(plan, state);
        rollback.resources_deleted = resources_deleted(plan, state);
        rollback.traffic_safe_at = rollback.traffic_safe_at.or(state.traffic_safe_at);
        rollback.updated_at = now;
    }
    vec![message(plan, rows, ending)]
}

fn overall(ending: &Ending, health: &BTreeMap<String, Health>) -> Health {
    match ending {
        Ending::Done { healthy: true } => {
            if health.values().any(|h| *h == Health::Warning) {
                Health::Warning
            } else {
                Health::Healthy
            }
        }
        Ending::Done { healthy: false }
        | Ending::FailedLive { .. }
        | Ending::TakenBack { failure: Some(_), .. } => Health::Failing,
        _ => health.values().copied().max().unwrap_or(Health::Unknown),
    }
}

fn end_deploy(plan: &Plan, state: &State, rows: &mut Opening, ending: &Ending, now: Timestamp) {
    let Some(row) = &mut rows.deployment else { return };
    row.completed_at = Some(now);
    match ending {
        Ending::Done { .. } => {
            row.status = DeploymentStatus::Stable;
            row.stable_at = Some(now);
            row.error_message = None;
        }
        Ending::NothingChanged { message } => {
            row.status = DeploymentStatus::Failed;
            row.error_message = Some(message.clone());
        }
        Ending::FailedLive { failure } => {
            row.status = DeploymentStatus::Failed;
            row.error_message = Some(failure.evidence.join("; "));
            if is_met_by_users(plan, state, &rows.environment) {
                rows.environment.live = plan.deployment;
            }
        }
        // Nothing goes back from a record of what is there.
        Ending::TakenBack { .. } if plan.kind == OperationKind::Adopt => {
            row.status = DeploymentStatus::Failed;
        }
        // The row becomes `rolled_back` with the end of the operation that takes it back.
        Ending::TakenBack { failure, .. } => {
            row.rejected |= failure.as_ref().is_some_and(|f| f.release_is_bad)
        }
        Ending::Superseded { .. } => row.status = DeploymentStatus::Superseded,
        Ending::Resolved { reason, .. } => {
            row.status = DeploymentStatus::Failed;
            row.error_message = Some(format!("resolved by hand: {reason}"));
        }
    }
}

/// Whether users meet what a failed deploy left running: it was given traffic, or replaced what was there.
fn is_met_by_users(plan: &Plan, state: &State, environment: &EnvironmentRecord) -> bool {
    let holds = |slot, number: Option<u64>| {
        environment.slots.get(&slot).is_some_and(|record| Some(record.deployment) == number)
    };
    let gives = |action: &Action| matches!(action, Action::SetTraffic(t) if t.side == plan.slot && t.percent > 0);
    let mut steps = plan.steps.iter().zip(&state.steps);
    let got_traffic = steps.any(|(step, progress)| progress.attempts > 0 && gives(&step.action));
    let stays = plan.from.as_ref().is_some_and(|from| holds(from.slot, Some(from.number)));
    holds(plan.slot, plan.deployment) && (got_traffic || !stays)
}

fn leave(left: &mut Option<Deployment>, rejected: bool, now: Timestamp) {
    if let Some(row) = left {
        row.status = DeploymentStatus::RolledBack;
        row.rejected |= rejected;
        row.completed_at = row.completed_at.or(Some(now));
    }
}

/// A deployment whose own operation was handed over is not under way any more, however the way back ends.
fn close_left(left: &mut Option<Deployment>, ending: &Ending, now: Timestamp) {
    let Some(row) = left else { return };
    let nothing_changed = matches!(ending, Ending::NothingChanged { .. });
    let under_way = match row.status {
        DeploymentStatus::Pending | DeploymentStatus::InProgress | DeploymentStatus::Stuck => true,
        DeploymentStatus::Baking => !nothing_changed,
        _ => false,
    };
    if under_way {
        let goes_on = matches!(ending, Ending::TakenBack { .. } | Ending::Superseded { .. });
        row.status = if goes_on { DeploymentStatus::RolledBack } else { DeploymentStatus::Failed };
        row.completed_at = row.completed_at.or(Some(now));
    }
}

fn end_rollback(plan: &Plan, rows: &mut Opening, ending: &Ending, now: Timestamp) {
    let Some(row) = &mut rows.deployment else { return };
    row.completed_at = Some(now);
    let mut status = RollbackStatus::Completed;
    let mut error = None;
    match ending {
        Ending::Done { healthy } => {
            row.status = match (healthy, plan.target_was_stable) {
                (false, _) => DeploymentStatus::Failed,
                (true, true) => DeploymentStatus::Stable,
                (true, false) => DeploymentStatus::Baking,
            };
            row.stable_at = (row.status == DeploymentStatus::Stable).then_some(now);
            // A reason for which it was stuck for a while is no reason any more.
            row.error_message =
                (!healthy).then(|| "rolled back, but what was restored is failing".to_owned());
            leave(&mut rows.left, plan.reject_left, now);
        }
        Ending::NothingChanged { message } => {
            row.status = DeploymentStatus::Failed;
            (status, error) = (RollbackStatus::Failed, Some(message.clone()));
        }
        Ending::TakenBack { .. } | Ending::Superseded { .. } => {
            row.status = DeploymentStatus::Superseded;
            (status, error) = (RollbackStatus::Failed, Some("taken over".to_owned()));
        }
        Ending::FailedLive { failure } => {
            row.status = DeploymentStatus::Failed;
            (status, error) = (RollbackStatus::Failed, Some(failure.evidence.join("; ")));
        }
        Ending::Resolved { reason, .. } => {
            row.status = DeploymentStatus::Failed;
            (status, error) = (RollbackStatus::Failed, Some(format!("resolved by hand: {reason}")));
        }
    }
    row.error_message = error.clone().or(row.error_message.take());
    if let Some(rollback) = &mut rows.rollback {
        rollback.status = status;
        rollback.error_message = error;
        rollback.completed_at = Some(now);
        let ms = now.as_millisecond() - rollback.started_at.as_millisecond();
        rollback.duration_ms = Some(u64::try_from(ms).unwrap_or(0));
    }
}

fn end_down(plan: &Plan, rows: &mut Opening, ending: &Ending, now: Timestamp) {
    if let Ending::Done { .. } = ending {
        rows.environment.live = None;
        rows.environment.slots.clear();
        if let Some(row) = &mut rows.left {
            let by_hand = plan.trigger == Some(Trigger::Manual);
            row.status =
                if by_hand { DeploymentStatus::RolledBack } else { DeploymentStatus::Failed };
            row.completed_at = Some(now);
        }
    }
}

/// The history stays; whatever comes next starts afresh.
fn end_eject(state: &State, rows: &mut Opening, ending: &Ending) {
    if let Ending::Done { .. } = ending {
        let environment = &mut rows.environment;
        environment.live = None;
        let receipts = state.steps.iter().filter_map(|step| step.receipt.as_ref());
        // What a supervisor of ours goes on with is known, so that the next deploy replaces it.
        if !receipts.into_iter().any(|receipt| receipt.data["keeps_slots"] == true) {
            environment.slots.clear();
        }
        environment.routed = false;
        environment.scripts_spoken.clear();
        environment.drills.clear();
        environment.begins_at = environment.next_number;
    }
}

/// What a drill has shown is kept with the environment; one that was interrupted has shown nothing.
fn end_drill(plan: &Plan, state: &State, rows: &mut Opening) {
    let shown = plan.steps.iter().zip(&state.steps).find_map(|(step, progress)| {
        let receipt = progress.receipt.as_ref()?;
        let record = receipt.data.get("drill").filter(|_| is_rehearsal(&step.action))?;
        serde_json::from_value::<DrillRecord>(record.clone()).ok()
    });
    let Some(shown) = shown else { return };
    let drills = &mut rows.environment.drills;
    drills.insert(shown.release.clone(), shown);
    while drills.len() > DRILLS_MAX {
        let oldest = drills.iter().min_by_key(|(_, record)| record.at).map(|(id, _)| id.clone());
        if let Some(oldest) = oldest {
            drills.remove(&oldest);
        }
    }
}

fn is_rehearsal(action: &Action) -> bool {
    matches!(action, Action::Rehearse { .. })
}

/// The steps as the record shows them.
#[must_use]
pub fn step_records(plan: &Plan, state: &State) -> Vec<StepRecord> {
    plan.steps
        .iter()
        .zip(&state.steps)
        .map(|(step, progress)| {
            let span = progress.started_at.zip(progress.changed_at);
            let ms = span.map_or(0, |(from, to)| to.as_millisecond() - from.as_millisecond());
            StepRecord {
                id: plan.effect_key(step),
                phase: step.phase.as_str().to_owned(),
                name: step.name.clone(),
                status: match progress.phase {
                    StepPhase::Pending => "pending",
                    StepPhase::Running | StepPhase::Unknown => "running",
                    StepPhase::Failed | StepPhase::Refused => "failed",
                    StepPhase::Done => "done",
                    StepPhase::Skipped => "skipped",
                }
                .to_owned(),
                attempts: progress.attempts,
                duration_ms: u64::try_from(ms).unwrap_or(0),
            }
        })
        .collect()
}

fn done_actions<'a>(plan: &'a Plan, state: &'a State) -> impl Iterator<Item = &'a Action> {
    plan.steps
        .iter()
        .zip(&state.steps)
        .filter(|(_, p)| p.phase == StepPhase::Done)
        .map(|(s, _)| &s.action)
}

fn changes_reverted(plan: &Plan, state: &State) -> Vec<String> {
    let has = |wanted: fn(&Action) -> bool| done_actions(plan, state).any(wanted);
    let mut reverted = Vec::new();
    if has(|a| matches!(a, Action::SetTraffic(_))) {
        reverted.push("traffic".to_owned());
    }
    if has(|a| matches!(a, Action::Start { .. } | Action::Stop { .. })) {
        reverted.push("release".to_owned());
    }
    if has(|a| matches!(a, Action::RestoreConfig { .. })) {
        reverted.push("config".to_owned());
    }
    reverted
}

fn resources_deleted(plan: &Plan, state: &State) -> Vec<String> {
    done_actions(plan, state)
        .filter_map(|action| match action {
            Action::Stop { service, host, slot, release } => {
                Some(format!("{service}@{host} slot {slot} ({release})"))
            }
            _ => None,
        })
        .collect()
}

fn message(plan: &Plan, rows: &Opening, ending: &Ending) -> OutboxMessage {
    let topic = match ending {
        Ending::Done { healthy: true } => "operation_done",
        Ending::Done { healthy: false } => "rolled_back_unhealthy",
        Ending::NothingChanged { .. } => "operation_failed",
        Ending::FailedLive { .. } => "failing_live",
        Ending::TakenBack { .. } => "taken_back",
        Ending::Superseded { .. } => "superseded",
        Ending::Resolved { .. } => "resolved",
    };
    let live = |live: &Live| serde_json::json!({"number": live.number, "version": live.version});
    OutboxMessage {
        topic: topic.to_owned(),
        body: serde_json::json!({
            "operation": plan.operation, "kind": plan.kind, "app": plan.key.app, "environment": plan.key.environment,
            "deployment": plan.deployment, "version": plan.version, "from": plan.from.as_ref().map(live),
            "left": plan.left.as_ref().map(live), "trigger": plan.trigger, "evidence": plan.evidence,
            "reason": plan.reason, "requested_by": plan.requested_by,
            "status": rows.deployment.as_ref().map(|row| row.status),
        }),
    }
}
