//! Actions as effects, and the observation of whether an action's postcondition holds.

use std::time::Duration;

use backout_core::ids::{HostName, Slot, Unit};
use backout_core::model::{OperationKind, RouterPolicy};
use backout_core::plan::{Action, Plan, RevertStep, Step, TrafficStep};
use backout_core::ports::{
    AdapterError, DeadMan, ErrorClass, Receipt, Revert, Router, Running, StepCx, TargetAction,
    Traffic, TrafficChange, Trip,
};

use crate::acted;
use crate::config_snapshot::{self, Keep};
use crate::context::Context;
use crate::faults::stop;
use crate::gate;
use crate::jobs;
use crate::journal::Journal;
use crate::pins;
use crate::sides::{self, Sides, Wanted};
use crate::situation;

/// Context of one try.
pub(crate) fn step_cx(
    cx: &Context,
    plan: &Plan,
    step: &Step,
    attempt: u32,
    epoch: u64,
    timeout: Duration,
) -> StepCx {
    StepCx {
        operation: plan.operation.clone(),
        step_id: plan.effect_key(step),
        attempt,
        epoch,
        timeout,
        deployment: plan.deployment.or(plan.left.as_ref().map(|live| live.number)).unwrap_or(0),
        from_version: plan.left.as_ref().or(plan.from.as_ref()).map(|live| live.version.clone()),
        reason: plan.reason.clone().unwrap_or_else(|| plan.evidence.join("; ")),
        secrets: cx.secrets.clone(),
    }
}

fn unavailable(error: &backout_core::ports::LedgerError) -> AdapterError {
    AdapterError::transient(error.to_string())
}

fn unit(
    cx: &Context,
    service: &backout_core::ids::ServiceName,
    host: &HostName,
    slot: Slot,
) -> Unit {
    Unit { key: cx.key.clone(), service: service.clone(), host: host.clone(), slot }
}

pub(crate) fn router(cx: &Context) -> Result<&dyn Router, AdapterError> {
    cx.router
        .as_deref()
        .ok_or_else(|| AdapterError::permanent("failed to move traffic: no router is configured"))
}

/// What goes between an executor and an effect beside its outcome.
#[derive(Default)]
pub(crate) struct Aside {
    /// The sides of a traffic move, if they were asked for already.
    pub sides: Option<Result<Sides, AdapterError>>,
    /// The router moved nothing, since it had acted by itself: these words have to be durable before it is made to
    /// forget that. The effect is made once more then.
    pub heard: Option<String>,
    /// They are durable.
    pub noted: bool,
}

/// Makes the effect of an action.
pub(crate) async fn apply(
    cx: &Context,
    journal: &Journal,
    action: &Action,
    step: &StepCx,
    aside: &mut Aside,
) -> Result<Receipt, AdapterError> {
    match action {
        Action::Snapshot => snapshot(cx).await,
        Action::PinArtifacts { release } => pins::pin(cx, &journal.plan, release, step).await,
        Action::EnsureRouter => router(cx)?.ensure(step).await,
        Action::Start { .. } if crate::drill::is_only_ended(journal) => {
            let message = "left out: the drill was interrupted".to_owned();
            Ok(Receipt { message, ..Receipt::default() })
        }
        Action::Start { .. } | Action::Stop { .. } | Action::Confirm { .. } => {
            on_unit(cx, action, step).await
        }
        Action::Drain { slot } => {
            let limit = Duration::from_millis(cx.policy.shutdown.drain_ms);
            router(cx)?.drain(*slot, step.epoch, limit).await
        }
        Action::SetTraffic(traffic) => set_traffic(cx, journal, traffic, step, aside).await,
        Action::RemoveRoute => router(cx)?.remove(step.epoch).await,
        Action::Watch { .. } => Ok(Receipt::default()),
        Action::RestoreConfig { release } => restore_config(cx, &journal.plan, release).await,
        Action::Prune => prune(cx, journal, step).await,
        Action::KeepEvidence { .. } => Ok(crate::incident::keep(cx, journal, action).await),
        Action::LetGo { slot, release } => {
            crate::commands::eject::let_go(cx, *slot, release, step).await
        }
        Action::Rehearse { .. } => Ok(crate::drill::rehearse(cx, journal, action, step).await),
    }
}

/// Makes the effect of an action on one unit; of any other action nothing.
pub(crate) async fn on_unit(
    cx: &Context,
    action: &Action,
    step: &StepCx,
) -> Result<Receipt, AdapterError> {
    let load = async |id| situation::release(cx, id).await.map_err(|e| unavailable(&e));
    let action = match action {
        Action::Start { service, host, slot, release, deployment, restore, revert, batch } => {
            let revert = match revert {
                Some(RevertStep { back_to, within_ms }) => {
                    let back_to = match back_to {
                        Some(id) => Some(load(id).await?),
                        None => None,
                    };
                    Some(Revert { back_to, within_ms: *within_ms })
                }
                None => None,
            };
            TargetAction::Start {
                unit: unit(cx, service, host, *slot),
                release: load(release).await?,
                deployment: *deployment,
                restore: *restore,
                revert,
                batch: *batch,
            }
        }
        Action::Stop { service, host, slot, release } => TargetAction::Stop {
            unit: unit(cx, service, host, *slot),
            release: load(release).await?,
            grace_ms: cx.policy.shutdown.grace_ms,
        },
        Action::Confirm { service, host, slot, release, deployment } => TargetAction::Confirm {
            unit: unit(cx, service, host, *slot),
            release: load(release).await?,
            deployment: *deployment,
        },
        _ => return Ok(Receipt::default()),
    };
    if let TargetAction::Start { unit, release, .. } = &action
        && let Some(job) = jobs::job_of(cx, release, unit)
    {
        return jobs::run(cx.target.as_ref(), &action, job, cx.policy.shutdown.grace_ms, step)
            .await;
    }
    stop("checked", "target");
    cx.target.apply(&action, step).await
}

async fn snapshot(cx: &Context) -> Result<Receipt, AdapterError> {
    let files = config_snapshot::take(cx, &cx.config_globs, Keep::Yes).await?;
    let data = serde_json::to_value(&files).map_err(|e| AdapterError::permanent(e.to_string()))?;
    Ok(Receipt {
        message: format!("{} config files saved", files.len()),
        data,
        ..Receipt::default()
    })
}

async fn restore_config(
    cx: &Context,
    plan: &Plan,
    release: &backout_core::ids::ReleaseId,
) -> Result<Receipt, AdapterError> {
    let wanted = situation::release(cx, release).await.map_err(|e| unavailable(&e))?;
    let left = match plan.left.as_ref().or(plan.from.as_ref()) {
        Some(live) => situation::release(cx, &live.release)
            .await
            .map_err(|e| unavailable(&e))?
            .content
            .config
            .clone(),
        None => Vec::new(),
    };
    let changed = config_snapshot::restore(cx, &wanted.content.config, &left).await?;
    let message =
        if changed.is_empty() { "nothing differed".to_owned() } else { changed.join(", ") };
    Ok(Receipt { message, data: serde_json::json!({ "files": changed }), ..Receipt::default() })
}

/// Keeps what the newest `keep` stable releases and every slot need; forgets the rest of our copies.
async fn prune(cx: &Context, journal: &Journal, step: &StepCx) -> Result<Receipt, AdapterError> {
    let needed = crate::readiness::needed_artifacts(cx, None).await.map_err(|e| unavailable(&e))?;
    let removed = cx.artifacts.prune(&needed, step).await?;
    crate::incident::tidy(cx).await;
    // The bake is over: a deploy prunes as its last step.
    let warnings = mark_stable(cx, journal).await.err().map(|error| error.to_string());
    Ok(Receipt {
        message: format!("{} artifact copies removed", removed.len()),
        warnings: warnings.into_iter().collect(),
        ..Receipt::default()
    })
}

async fn mark_stable(cx: &Context, journal: &Journal) -> Result<(), AdapterError> {
    let Some(id) = &journal.plan.release else { return Ok(()) };
    let release = situation::release(cx, id).await.map_err(|e| unavailable(&e))?;
    for service in release.content.services.keys() {
        for unit in situation::units(cx, service, journal.plan.slot) {
            cx.target.mark_stable(&unit, &release).await?;
        }
    }
    Ok(())
}

async fn set_traffic(
    cx: &Context,
    journal: &Journal,
    traffic: &TrafficStep,
    step: &StepCx,
    aside: &mut Aside,
) -> Result<Receipt, AdapterError> {
    if let (true, Some(slot)) = (traffic.gate, sides::gaining(traffic)) {
        gate::require_healthy(cx, journal, slot).await?;
    }
    let router = router(cx)?;
    let mut weights = sides::weights(traffic);
    let dead_man = match (&cx.policy.router, traffic.dead_man, traffic.rest) {
        (RouterPolicy::Builtin { dead_man_ms, .. }, true, Some(stable)) => {
            Some(DeadMan { stable, after_ms: *dead_man_ms })
        }
        _ => None,
    };
    let trip = traffic.trip.zip(traffic.rest).map(|(rule, stable)| Trip { stable, rule });
    let going_back = journal.plan.kind != OperationKind::Deploy;
    let sides = match aside.sides.take() {
        Some(asked) => asked?,
        None => Wanted::of(cx, journal, traffic).await?.ask(cx).await?,
    };
    // A side that is gone already gets no traffic and needs no mention.
    weights.retain(|slot, _| sides.contains_key(slot));
    let change = TrafficChange {
        sides,
        weights,
        new_side: traffic.side,
        stage: traffic.stage.clone(),
        dead_man,
        trip,
        cut: traffic.cut,
        // Going back adopts whatever the proxy did by itself meanwhile; going forward must not.
        acknowledge_fired: going_back,
    };
    let mut warnings = Vec::new();
    let now = match move_it(router, &change, step, journal, aside).await {
        // Nothing was changed. If that is because it is gone, it is started with the routes that it kept.
        Err(error) if error.class == ErrorClass::Transient => match router.ensure(step).await {
            Ok(receipt) if was_started(&receipt) => {
                warnings.push(ROUTER_STARTED_AGAIN.to_owned());
                move_it(router, &change, step, journal, aside).await?
            }
            _ => return Err(error),
        },
        other => other?,
    };
    if change.trip.is_some() && now.trip.is_none() && router.has_trip() {
        warnings.push(OLDER_ROUTER.to_owned());
    }
    Ok(Receipt {
        message: step_words(traffic),
        warnings,
        data: serde_json::json!({ "weights": now.weights }),
        ..Receipt::default()
    })
}

async fn move_it(
    router: &dyn Router,
    change: &TrafficChange,
    step: &StepCx,
    journal: &Journal,
    aside: &mut Aside,
) -> Result<Traffic, AdapterError> {
    stop("checked", "router");
    if !change.acknowledge_fired {
        return router.apply(change, step).await;
    }
    match acted::move_and_adopt(router, change, step, journal, aside.noted).await {
        Ok(now) => Ok(now),
        Err(acted::Stopped { error, heard }) => {
            aside.heard = heard;
            Err(error)
        }
    }
}

/// Said when users may have got no answer for a while.
pub(crate) const ROUTER_STARTED_AGAIN: &str =
    "the router was gone and was started again; until then users got no answer";

/// Said when a proxy that was started by an older program took the weights and knows nothing of trips.
const OLDER_ROUTER: &str = "the running proxy is an older one and armed no trip; `backout down` and a deploy start the new one";

/// Whether `ensure` had to start the router.
pub(crate) fn was_started(receipt: &Receipt) -> bool {
    receipt.data.get("started") == Some(&serde_json::Value::Bool(true))
}

fn step_words(traffic: &TrafficStep) -> String {
    match traffic.rest {
        Some(rest) => format!(
            "{} % on slot {}, {} % on slot {rest}",
            traffic.percent,
            traffic.side,
            100 - traffic.percent
        ),
        None => format!("{} % on slot {}", traffic.percent, traffic.side),
    }
}

/// Whether the postcondition of an action holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    Yes,
    No,
    /// Can't be told: treated as not applied, since every effect may be repeated.
    Unknown,
}

/// Observes an action's postcondition.
pub(crate) async fn holds(cx: &Context, journal: &Journal, action: &Action) -> Holds {
    match action {
        // The target counts what is there each time, and does what is missing.
        Action::Start { batch: Some(_), .. } => Holds::No,
        Action::Start { service, host, slot, release, deployment, .. } => {
            let unit = unit(cx, service, host, *slot);
            let Ok(release) = situation::release(cx, release).await else { return Holds::Unknown };
            let is_job = jobs::job_of(cx, &release, &unit).is_some();
            match cx.target.observe(&unit, Some(&release)).await {
                Ok(seen) if is_job => match jobs::has_ended_well(&seen, &release, *deployment) {
                    true => Holds::Yes,
                    false => Holds::No,
                },
                Ok(seen) => match (&seen.running, &seen.release, &seen.version) {
                    (Running::Yes, Some(id), _) if *id == release.id => Holds::Yes,
                    (Running::Yes, None, Some(version))
                        if version == release.content.version_of(service) =>
                    {
                        Holds::Yes
                    }
                    (Running::Unknown, ..) => Holds::Unknown,
                    _ => Holds::No,
                },
                Err(_) => Holds::Unknown,
            }
        }
        Action::Stop { service, host, slot, release } => {
            let unit = unit(cx, service, host, *slot);
            let release = situation::release(cx, release).await.ok();
            match cx.target.observe(&unit, release.as_deref()).await.map(|seen| seen.running) {
                Ok(Running::No) => Holds::Yes,
                Ok(Running::Yes) => Holds::No,
                Ok(Running::Unknown) | Err(_) => Holds::Unknown,
            }
        }
        Action::SetTraffic(traffic) => traffic_holds(cx, journal, traffic).await,
        Action::RemoveRoute => match router(cx) {
            Ok(router) => match router.read().await {
                Ok(None) => Holds::Yes,
                Ok(Some(_)) => Holds::No,
                Err(_) => Holds::Unknown,
            },
            Err(_) => Holds::Yes,
        },
        Action::RestoreConfig { release } => {
            let Ok(release) = situation::release(cx, release).await else { return Holds::Unknown };
            match config_snapshot::drift(cx, &release.content.config).await {
                Ok(differing) if differing.is_empty() => Holds::Yes,
                Ok(_) => Holds::No,
                Err(_) => Holds::Unknown,
            }
        }
        // Cheap to do again, and nobody notices.
        Action::Snapshot
        | Action::PinArtifacts { .. }
        | Action::EnsureRouter
        | Action::Drain { .. }
        | Action::Confirm { .. }
        | Action::Prune => Holds::No,
        Action::KeepEvidence { .. } => crate::incident::is_kept(cx, journal),
        // What was seen by somebody who is gone is not known.
        Action::Rehearse { .. } | Action::LetGo { .. } => Holds::No,
        Action::Watch { .. } => Holds::No,
    }
}

async fn traffic_holds(cx: &Context, journal: &Journal, traffic: &TrafficStep) -> Holds {
    let Ok(router) = router(cx) else { return Holds::Unknown };
    let Ok(Some(now)) = router.read().await else { return Holds::Unknown };
    let share = |slot: Slot| now.weights.get(&slot).copied().unwrap_or(0);
    let rest = match traffic.rest {
        Some(rest) => share(rest) == 100 - traffic.percent,
        None => share(traffic.side.other()) == 0,
    };
    let wanted = journal.rows.environment.slots.get(&traffic.side).map(|record| record.deployment);
    let known = now.sides.get(&traffic.side).map(|side| side.deployment);
    let same_side = traffic.percent == 0 || known.is_none() || known == wanted;
    // A split must stand with its dead-man; without one it is made again.
    let guarded = !traffic.dead_man || !router.has_dead_man() || now.dead_man.is_some();
    let tripwire = traffic.trip.is_none() || !router.has_trip() || now.trip.is_some();
    let acted = now.fired.is_some() || now.tripped.is_some();
    let as_wanted = share(traffic.side) == traffic.percent && rest && same_side;
    if as_wanted && guarded && tripwire && !acted { Holds::Yes } else { Holds::No }
}
