//! What should run does run, carries our marker, and has a way back.

use backout_core::model::{RouterPolicy, Severity, TargetKind};
use backout_core::ports::{LedgerError, Observed, Running};
use backout_engine as engine;
use backout_engine::{Context, EngineError, Standing, TrafficView, View};

use super::{Item, needs};
use crate::cli::reading::Place;
use crate::cli::report::commands::Commands;
use crate::cli::report::words;
use crate::cli::session;
use crate::error::CommandError;

/// All of it.
pub async fn items(place: &Place, commands: &Commands) -> Result<Vec<Item>, CommandError> {
    let settings = &place.loaded.settings;
    let Some(session) = &place.session else {
        return Ok(needs::listen(settings, false).into_iter().collect());
    };
    let cx = &session.cx;
    let view = engine::look(cx).await.map_err(|error| session::ledger_error(&error))?;
    let answers = matches!(&view.traffic, TrafficView::Known(_));
    let mut items: Vec<Item> =
        view.problems.iter().map(|why| Item::error("records", why)).collect();
    items.extend(clock(&view));
    items.push(marker(cx).await);
    items.push(operation(&view, commands));
    items.extend(needs::listen(settings, answers));
    items.extend(proxy(&view, &settings.policy.router, commands));
    items.extend(obstacles(cx, &view).await);
    items.extend(services(cx, &view, settings.policy.target, commands).await);
    items.extend(way_back(cx, &view).await?);
    Ok(items)
}

/// A record from the future: the clock was set back, or is wrong now.
fn clock(view: &View) -> Option<Item> {
    let live = view.live.as_ref()?;
    let ahead_s = live.started_at.as_second() - view.at.as_second();
    (ahead_s > 60).then(|| {
        let message = format!(
            "{} began {ahead_s} s from now by its record: the clock was set back, ages and `--to '2h ago'` mislead",
            live.label()
        );
        Item::warning("clock", message)
    })
}

async fn marker(cx: &Context) -> Item {
    let name = "marker";
    match engine::managed_by_us(cx).await {
        Ok(()) => Item::pass(name, "nothing here is managed by another ledger"),
        Err(EngineError::Refused(refused)) => {
            let mut item = Item::error(name, refused.message.clone());
            item.fix.clone_from(&refused.hints);
            item
        }
        Err(error) => Item::warning(name, error.to_string()),
    }
}

fn operation(view: &View, commands: &Commands) -> Item {
    let name = "lease";
    let holder = view.lease.as_ref();
    let Some(operation) = &view.operation else {
        return match holder.filter(|lease| lease.alive) {
            Some(lease) => Item::pass(
                name,
                format!("{} holds it for `{}`", lease.holder.label, lease.holder.activity),
            ),
            None => Item::pass(name, "free, no operation is open"),
        };
    };
    let kind = operation.plan.kind;
    let who = holder.map_or("nobody", |lease| lease.holder.label.as_str());
    match operation.standing() {
        Standing::Running => Item::pass(name, format!("{who} works on a {kind}")),
        Standing::Unwatched => Item::warning(name, format!("a {kind} bakes and nobody watches"))
            .fix(commands.command("recover")),
        Standing::Interrupted => {
            Item::error(name, format!("a {kind} was interrupted, {who} is gone"))
                .fix(commands.command("recover"))
        }
        Standing::Stuck { step, reason } => {
            Item::error(name, format!("a {kind} is stuck at {step}: {reason}"))
                .fix(commands.command("retry"))
                .fix(commands.command("rollback"))
        }
        Standing::Quarantined(why) => Item::error(name, format!("a {kind} can't be read: {why}"))
            .fix(commands.command("resolve --reason TEXT")),
    }
}

fn proxy(view: &View, router: &RouterPolicy, commands: &Commands) -> Option<Item> {
    let name = match router {
        RouterPolicy::None => return None,
        RouterPolicy::Builtin { .. } => "proxy",
        RouterPolicy::Script => "router",
    };
    let routed = view.environment.routed;
    Some(match &view.traffic {
        TrafficView::Known(traffic) => match (&traffic.unbound, traffic.listen) {
            (Some(why), _) => {
                let again = "the proxy tries again each second";
                Item::error(name, format!("it runs, but users are not served: {why}; {again}"))
            }
            (None, Some(listen)) => {
                Item::pass(name, format!("runs and answers, users come in at {listen}"))
            }
            (None, None) => Item::pass(name, "its last change is known"),
        },
        TrafficView::Unreachable(why) => Item::error(name, why.clone()),
        _ if routed => Item::error(name, "it does not run, so users are not served")
            .fix(commands.command("recover")),
        _ => Item::pass(name, "starts with the first deploy"),
    })
}

/// Programs that Backout did not start and that are in its way.
async fn obstacles(cx: &Context, view: &View) -> Vec<Item> {
    match engine::obstacles(cx, view).await {
        Ok(found) => found.into_iter().map(|what| Item::error("fixed_port", what)).collect(),
        Err(error) => vec![Item::warning("fixed_port", error.to_string())],
    }
}

async fn services(cx: &Context, view: &View, target: TargetKind, commands: &Commands) -> Vec<Item> {
    let name = "running";
    let mut items = Vec::new();
    for (service, observed) in engine::observe_live(cx, view).await {
        let version = view.release.as_ref().map(|release| release.content.version_of(&service));
        let version = version.map(backout_core::ids::Version::as_str).unwrap_or_default();
        items.push(match (observed.running, target) {
            (Running::Yes, _) if observed.orphaned => Item::warning(
                name,
                format!(
                    "{service} {version} runs, but its supervisor is gone: nobody starts it again"
                ),
            )
            .fix(commands.command("recover")),
            (Running::Yes, _) => {
                Item::pass(name, format!("{service} {version} runs{}", pid(&observed)))
            }
            (Running::No, _) => Item::error(
                name,
                format!("{service} {version} should run and does not{}", why(cx, view)),
            )
            .fix(commands.command("recover")),
            (Running::Unknown, TargetKind::Script) => {
                Item::pass(name, format!("{service}: the script can't tell what runs"))
            }
            (Running::Unknown, _) => {
                Item::warning(name, format!("{service}: it can't be told whether it runs"))
            }
        });
    }
    items
}

fn pid(observed: &Observed) -> String {
    let restarts = match observed.restarts {
        0 => String::new(),
        count => format!(", started again {count} times"),
    };
    observed.pid.map(|pid| format!(" as process {pid}{restarts}")).unwrap_or_default()
}

/// The lease names the boot in which this environment was last worked on.
fn why(cx: &Context, view: &View) -> &'static str {
    let boot = |id: &str| id.split('/').next().unwrap_or_default().to_owned();
    let then = view.lease.as_ref().map(|lease| boot(&lease.holder.boot_id));
    match then {
        Some(then) if then != boot(&cx.holder.boot_id) => {
            ": this machine was started again since, and nothing started it"
        }
        _ => "",
    }
}

/// Proven now; the age of the last proof says how long nobody did.
async fn way_back(cx: &Context, view: &View) -> Result<Vec<Item>, CommandError> {
    if view.live.is_none() {
        return Ok(vec![Item::pass(
            "rollback",
            "nothing is live: a first deployment is taken back by removing it",
        )]);
    }
    let report = match engine::readiness(cx).await {
        Err(error @ LedgerError::CorruptRecord { .. }) => {
            return Ok(vec![Item::error("rollback", error.to_string())]);
        }
        other => other.map_err(|error| session::ledger_error(&error))?,
    };
    let Some(report) = report else {
        return Ok(vec![Item::warning("rollback", "there is no release to go back to yet")]);
    };
    let before = view
        .readiness
        .as_ref()
        .map_or_else(|| "never before".to_owned(), |kept| words::age(kept.checked_at, view.at));
    let to =
        format!("to #{} {}, proven now; last proven {before}", report.deployment, report.version);
    let mut items = vec![match report.ready {
        true => Item::pass("rollback", format!("ready {to}")),
        false => Item::error("rollback", format!("not ready {to}")),
    }];
    for check in report.checks {
        let item = Item::new(&format!("rollback_{}", check.name), check.status, check.message);
        // What passes stands in the line above.
        items.extend(Some(item).filter(|item| item.status != Severity::Pass));
    }
    Ok(items)
}
