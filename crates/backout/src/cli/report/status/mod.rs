//! What `status` says of an environment: one description, as JSON and as text.

mod json;
mod text;

use backout_core::ids::{HostName, Slot};
use backout_core::model::{
    DeploymentStatus, DrillRecord, Health, OperationKind, ReadinessReport, Severity,
};
use backout_core::plan::{Action, Live, WatchMode};
use backout_core::ports::Traffic;
use backout_engine::{Operation, Standing, TrafficView, View};
use jiff::Timestamp;

use super::commands::Commands;
use super::words;

pub use json::{document, unknown};
pub use text::lines;

/// A share of the traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The deployment.
    pub deployment: u64,
    /// Its version.
    pub version: String,
    /// Percent.
    pub percent: u8,
    /// Where it runs.
    pub slot: Slot,
}

/// What continues an open operation, and what each way does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The exact command.
    pub command: String,
    /// What it does.
    pub what: String,
}

/// A view, described.
pub struct Described<'a> {
    /// What was seen.
    pub view: &'a View,
    /// Sides that get traffic.
    pub shares: Vec<Share>,
    /// The shares were read from the router, not concluded from the ledger.
    pub from_router: bool,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// What continues the open operation.
    pub ways: Vec<Way>,
    /// What was found by probes made now.
    pub findings: Vec<String>,
}

impl<'a> Described<'a> {
    /// Describes a view.
    #[must_use]
    pub fn new(view: &'a View, commands: &Commands) -> Self {
        let (shares, from_router) = shares(view);
        Self {
            view,
            shares,
            from_router,
            warnings: warnings(view, commands),
            ways: view.operation.as_ref().map_or_else(Vec::new, |op| ways(op, view, commands)),
            findings: Vec::new(),
        }
    }
}

/// Who gets traffic: as the router says, else the live side alone.
fn shares(view: &View) -> (Vec<Share>, bool) {
    let slots = &view.environment.slots;
    if let TrafficView::Known(traffic) = &view.traffic {
        let share = |(slot, percent): (&Slot, &u8)| {
            let (side, record) = (traffic.sides.get(slot), slots.get(slot));
            // The ledger knows for which deployment a side runs by now: a rollback takes a warm one over as it is.
            let same = record.filter(|record| side.is_none_or(|s| s.release == record.release));
            let named = same.map(|record| (record.deployment, record.version.to_string()));
            let (deployment, version) =
                named.or_else(|| side.map(|side| (side.deployment, side.version.to_string())))?;
            Some(Share { deployment, version, percent: *percent, slot: *slot })
        };
        let weights = traffic.weights.iter().filter(|(_, percent)| **percent > 0);
        let mut shares: Vec<Share> = weights.filter_map(share).collect();
        shares.sort_by_key(|share| Some(share.deployment) != view.environment.live);
        return (shares, true);
    }
    let live = view.live.iter().map(|live| Share {
        deployment: live.number,
        version: live.version.to_string(),
        percent: 100,
        slot: live.slot,
    });
    (live.collect(), false)
}

fn warnings(view: &View, commands: &Commands) -> Vec<String> {
    let mut warnings = view.problems.clone();
    match &view.traffic {
        TrafficView::Unreachable(why) => warnings.push(format!("the router can't be asked: {why}")),
        TrafficView::NoRoute if view.environment.routed && view.operation.is_none() => {
            warnings.push(format!(
                "the ledger knows a route, but no router answers: users are not served; `{}` starts it",
                commands.command("recover")
            ));
        }
        TrafficView::Known(traffic) => {
            warnings.extend(acted(traffic, view.at));
            warnings.extend(
                traffic
                    .unbound
                    .as_ref()
                    .map(|why| format!("the router runs, but users are not served: {why}")),
            );
        }
        _ => {}
    }
    if !view.drift.is_empty() {
        let number = view.live.as_ref().map(|live| live.label()).unwrap_or_default();
        warnings.push(format!(
            "config on disk differs from {number}: {}; the next deploy ships it, a rollback replaces it",
            view.drift.join(", ")
        ));
    }
    if let Some(report) = view.readiness.as_ref() {
        warnings.extend(
            report
                .checks
                .iter()
                .filter(|check| check.status != Severity::Pass)
                // That nobody has rehearsed it stands in the line about the rollback.
                .filter(|check| {
                    check.name != "old_release_startable" || check.status == Severity::Error
                })
                .map(|check| format!("rollback, {}: {}", check.name, check.message)),
        );
    }
    if let Some(Ok(state)) = view.operation.as_ref().map(|operation| &operation.state) {
        warnings.extend(state.warnings.iter().cloned());
    }
    warnings
}

fn ways(operation: &Operation, view: &View, commands: &Commands) -> Vec<Way> {
    let way = |verb: &str, what: String| Way { command: commands.command(verb), what };
    let back = back_to(operation, view);
    match operation.standing() {
        Standing::Running if operation.state.as_ref().is_ok_and(|state| state.paused) => {
            vec![way("resume", "lets the hold clock run again".to_owned())]
        }
        Standing::Running => Vec::new(),
        Standing::Unwatched => vec![
            way("recover", "watches the bake to its end, or goes back if it fails".to_owned()),
            way("rollback", format!("goes back {back}")),
        ],
        Standing::Interrupted => vec![
            way("recover", recover_does(operation, view)),
            way("rollback", format!("goes back {back}")),
        ],
        Standing::Stuck { step, .. } => vec![
            way("retry", format!("tries {step} again, once the cause is mended")),
            way("rollback", format!("goes back {back}")),
            way("resolve --reason TEXT", "ends it as it is".to_owned()),
        ],
        Standing::Quarantined(_) => vec![
            way(
                &format!("inspect {}", operation.plan.operation),
                "shows what is left of it".to_owned(),
            ),
            way("resolve --reason TEXT", "ends it as it is".to_owned()),
        ],
    }
}

/// Where a way back of this operation leads.
fn back_to(operation: &Operation, view: &View) -> String {
    let to = |live: &Live| format!("to #{} {}", live.number, live.version);
    let plan = &operation.plan;
    match plan.kind {
        OperationKind::Deploy => plan
            .from
            .as_ref()
            .map_or_else(|| "to nothing: what was started is stopped and removed".to_owned(), to),
        _ => view.readiness.as_ref().map_or_else(
            || "to the last known good release".to_owned(),
            |report| format!("to {}", text::way_back(report)),
        ),
    }
}

/// What the router did by itself, and nobody has adopted yet.
fn acted(traffic: &Traffic, now: Timestamp) -> Vec<String> {
    let what = |stable: Slot, moved: bool, reason: Option<&str>| match (moved, reason) {
        (true, _) => {
            let version = traffic.sides.get(&stable).map(|side| format!("{} in ", side.version));
            format!("moved all traffic to {}slot {stable}", version.unwrap_or_default())
        }
        (false, Some(why)) => format!("held traffic where it was: {why}"),
        (false, None) => "held traffic where it was".to_owned(),
    };
    let tripped = traffic.tripped.as_ref().map(|tripped| {
        format!(
            "the trip fired {}, and the router {} ({})",
            words::age(tripped.at, now),
            what(tripped.stable, tripped.moved, tripped.reason.as_deref()),
            tripped.evidence
        )
    });
    let fired = traffic.fired.as_ref().map(|fired| {
        format!(
            "the watcher was gone, so the dead-man deadline ran out {} and the router {}",
            words::age(fired.at, now),
            what(fired.stable, fired.moved, fired.reason.as_deref())
        )
    });
    tripped.into_iter().chain(fired).collect()
}

/// What `recover` would do with an interrupted operation (`INTERFACES`: forward if the new side is known good
/// and neither trip nor dead-man fired, else back).
fn recover_does(operation: &Operation, view: &View) -> String {
    let plan = &operation.plan;
    let version = plan.version.as_ref().map(ToString::to_string).unwrap_or_default();
    match plan.kind {
        OperationKind::Rollback => return format!("finishes the rollback to {version}"),
        OperationKind::Down => return "finishes stopping what runs".to_owned(),
        OperationKind::Eject => return "finishes letting it go".to_owned(),
        OperationKind::Drill => return "ends what is left of the drill".to_owned(),
        OperationKind::Adopt => return "finishes recording what runs".to_owned(),
        OperationKind::Deploy => {}
    }
    let back = back_to(operation, view);
    let fired = matches!(&view.traffic, TrafficView::Known(traffic)
        if traffic.fired.is_some() || traffic.tripped.is_some());
    let Ok(state) = &operation.state else { return "can't tell".to_owned() };
    if fired {
        return format!("adopts what the router did and goes back {back}");
    }
    if state.failing.is_some() {
        return format!("finishes going back {back}");
    }
    let finished = |wanted: fn(&WatchMode) -> bool| {
        plan.steps.iter().zip(&state.steps).any(|(step, state)| {
            state.is_finished()
                && matches!(&step.action, Action::Watch { mode, .. } if wanted(mode))
        })
    };
    if finished(|mode| matches!(mode, WatchMode::Bake { .. })) {
        return format!("finishes the deploy of {version}");
    }
    if !finished(|mode| matches!(mode, WatchMode::Ready { .. })) {
        return format!("goes back {back}: {version} was never proven ready");
    }
    format!("goes on if {version} passes its checks now, else goes back {back}")
}

/// Since when nobody watches a bake: the last sign of whoever did.
fn unwatched(view: &View) -> Option<Timestamp> {
    let Some(operation) = &view.operation else {
        // A rollback ends once it is verified; the bake of what it brought back is left to others.
        let live = view.live.as_ref().filter(|live| live.status == DeploymentStatus::Baking);
        return live.map(|live| live.completed_at.unwrap_or(live.started_at));
    };
    let entry = operation.last_entry_at.unwrap_or(operation.plan.planned_at);
    let last = view.health.as_ref().map_or(entry, |health| health.checked_at.max(entry));
    (operation.standing() == Standing::Unwatched).then_some(last)
}

/// The step that an operation is at, and what it is about: `shift_traffic`, `25 %`.
fn at_step(operation: &Operation) -> Option<(String, Option<String>)> {
    let step = &operation.plan.steps[operation.current()?];
    let detail = match &step.action {
        Action::SetTraffic(traffic) => Some(format!("{} %", traffic.percent)),
        Action::Watch { .. } => None,
        _ => step.subject.contains('@').then(|| step.subject.clone()),
    };
    Some((step.name.clone(), detail))
}

/// Health of one service of what is live.
fn host_health(view: &View, service: &str, host: &HostName) -> Health {
    if host.is_local() {
        return service_health(view, service);
    }
    let seen = view.health.as_ref().filter(|_| view.health_is_fresh());
    let of_host = seen.and_then(|health| health.hosts.get(&format!("{service}@{host}")).copied());
    of_host.unwrap_or(Health::Unknown)
}

fn service_health(view: &View, service: &str) -> Health {
    let seen = view.health.as_ref().filter(|_| view.health_is_fresh());
    seen.and_then(|health| health.services.get(service).copied()).unwrap_or(Health::Unknown)
}

/// The last drill of the release that a rollback would go back to.
fn drill_of<'a>(view: &'a View, report: &ReadinessReport) -> Option<&'a DrillRecord> {
    let drills = view.environment.drills.values();
    drills.filter(|drill| drill.version == report.version).max_by_key(|drill| drill.at)
}
