//! `eject`: Backout goes, and what runs stays.

use backout_core::ids::{ReleaseId, Slot};
use backout_core::model::RouterPolicy;
use backout_core::plan::{Live, Plan, plan_eject};
use backout_core::ports::{AdapterError, Farewell, Receipt, Running, StepCx};

use super::claim::{claim, give_back, ours_alone};
use super::rollback::begin;
use super::take_back::plan_context;
use super::{EngineError, Refused};
use crate::context::Context;
use crate::executor::Outcome;
use crate::journal;
use crate::readiness::{history, needed_artifacts};
use crate::situation;

/// An eject as it would run.
#[derive(Debug, Clone)]
pub struct PreparedEject {
    /// The plan.
    pub plan: Plan,
    /// What is live, and goes on.
    pub live: Option<Live>,
    /// What goes and what stays.
    pub farewell: Farewell,
    /// What runs with a mark of this ledger that can't be taken off: `web@local#a`.
    pub marked: Vec<String>,
}

/// Plans it without changing anything.
///
/// # Errors
/// Refused where it could not leave what runs running, or something is under way.
pub async fn prepare_eject(cx: &Context) -> Result<PreparedEject, EngineError> {
    ours_alone(cx).await?;
    if let Some(open) = cx.ledger.open_operation(&cx.key).await? {
        return Err(match cx.ledger.lease(&cx.key).await? {
            Some(view) if view.alive => EngineError::Busy(Box::new(view)),
            _ => interrupted(&open).into(),
        });
    }
    prepare(cx).await
}

fn interrupted(open: &Plan) -> Refused {
    Refused::new(
        format!("a {} is open and nobody works on it", open.kind),
        "`backout recover` finishes it; then eject",
    )
}

async fn prepare(cx: &Context) -> Result<PreparedEject, EngineError> {
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let live = situation::live(cx, &environment).await?;
    let Some(newest) = history(cx).await?.into_iter().next() else {
        return Err(Refused::new(
            format!("{} has no deployment of Backout's", cx.key),
            "there is nothing to eject from",
        )
        .into());
    };
    if let Some(live) = &live {
        refuse_own_router(cx, environment.routed, live).await?;
    }
    let (release, slot) = match &live {
        Some(live) => (live.release.clone(), live.slot),
        None => (newest.release, newest.slot),
    };
    let farewell = farewell(cx, (&release, slot), None).await?;
    let marked = marked(cx, &release).await?;
    let pcx = plan_context(cx, environment.next_number, None, false, Vec::new());
    let plan = plan_eject(&pcx, live.clone(), (&release, slot));
    Ok(PreparedEject { plan, live, farewell, marked })
}

/// Without the built-in proxy nobody would answer users: what runs would be left running, and unreachable.
async fn refuse_own_router(cx: &Context, routed: bool, live: &Live) -> Result<(), EngineError> {
    let RouterPolicy::Builtin { listen, .. } = &cx.policy.router else { return Ok(()) };
    if !routed {
        return Ok(());
    }
    let release = situation::release(cx, &live.release).await?;
    let mut addresses = Vec::new();
    for service in release.content.services.values().filter(|service| service.traffic) {
        let unit = situation::unit(cx, &service.name, live.slot);
        let observed = situation::observe(cx, &unit, Some(&release)).await;
        let address = observed.address.filter(|_| observed.running != Running::No);
        addresses.extend(address.map(|address| format!("{} at {address}", service.name)));
    }
    let behind =
        if addresses.is_empty() { "what runs behind it".to_owned() } else { addresses.join(", ") };
    Err(EngineError::Refused(Box::new(Refused {
        message: format!(
            "users of {} come in through Backout's own proxy at {listen}: without it nobody answers there",
            cx.key
        ),
        hints: vec![
            format!(
                "put another proxy before {behind}; or give the service its port itself: take `router:` out of \
                 backout.yaml, deploy once more, and eject then"
            ),
            "or stop everything with `backout down`, and eject then".to_owned(),
        ],
        checks: Vec::new(),
    })))
}

/// What the target removes of its own and what it leaves; it is done with `act`.
async fn farewell(
    cx: &Context,
    (release, slot): (&ReleaseId, Slot),
    act: Option<&StepCx>,
) -> Result<Farewell, EngineError> {
    let release = situation::release(cx, release).await?;
    let mut all = Farewell::default();
    for service in release.content.services.keys() {
        for unit in situation::units(cx, service, slot) {
            let one = cx.target.farewell(&unit, &release, act).await?;
            all.removed.extend(one.removed);
            all.stays.extend(one.stays);
            all.keeps_copies |= one.keeps_copies;
        }
    }
    all.removed.dedup();
    all.stays.dedup();
    Ok(all)
}

async fn marked(cx: &Context, release: &ReleaseId) -> Result<Vec<String>, EngineError> {
    let release = situation::release(cx, release).await?;
    let mut marked = Vec::new();
    for service in release.content.services.keys() {
        for slot in Slot::BOTH {
            for unit in situation::units(cx, service, slot) {
                let observed = cx.target.observe(&unit, Some(&release)).await?;
                if observed.running != Running::No && observed.marker.is_some() {
                    marked.push(unit.to_string());
                }
            }
        }
    }
    Ok(marked)
}

/// Lets the environment go.
///
/// # Errors
/// When it was refused or could not begin; nothing was changed then.
pub async fn eject(cx: &Context) -> Result<Outcome, EngineError> {
    prepare_eject(cx).await?;
    let claimed = claim(cx).await?;
    let result = match &claimed.open {
        Some(open) => Err(interrupted(open).into()),
        None => Box::pin(run(cx, &claimed)).await,
    };
    give_back(cx, claimed.keeper).await;
    result
}

async fn run(cx: &Context, claimed: &super::claim::Claimed) -> Result<Outcome, EngineError> {
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let prepared = prepare(cx).await?;
    begin(cx, &claimed.keeper, None, &environment, (prepared.plan, None)).await
}

/// The effect: each part of it may be made again.
pub(crate) async fn let_go(
    cx: &Context,
    slot: Slot,
    release: &ReleaseId,
    step: &StepCx,
) -> Result<Receipt, AdapterError> {
    let failed = |error: &dyn std::fmt::Display| AdapterError::transient(error.to_string());
    let farewell =
        farewell(cx, (release, slot), Some(step)).await.map_err(|error| match error {
            EngineError::Failed(message) => AdapterError::transient(message),
            other => failed(&other),
        })?;
    // Programs that go on run from their copies.
    let runs = if farewell.keeps_copies { Some(release) } else { None };
    let keep = needed_artifacts(cx, Some((&cx.key, runs))).await.map_err(|error| failed(&error))?;
    let removed = cx.artifacts.prune(&keep, step).await?;
    Ok(Receipt {
        message: match removed.len() {
            1 => "1 copy or reference removed".to_owned(),
            count => format!("{count} copies and references removed"),
        },
        data: serde_json::json!({ "removed": farewell.removed, "stays": farewell.stays, "keeps_slots": farewell.keeps_copies }),
        ..Receipt::default()
    })
}
