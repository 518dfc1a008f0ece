//! `status` for people.

use backout_core::model::{Health, ReadinessCheck, ReadinessReport, Request, Severity};
use backout_core::plan::Plan;
use backout_engine::{Operation, Standing, TrafficView, View};

use super::{Described, at_step, drill_of, host_health, service_health, unwatched};
use crate::cli::report::table::Fields;
use crate::cli::report::text::{
    BOLD, DIM, PLAIN, Text, bad, command, good, of_health, of_status, warn,
};
use crate::cli::report::words;

/// Lines with colour codes for a terminal of this width.
#[must_use]
pub fn lines(described: &Described<'_>, width: usize) -> Vec<String> {
    let view = described.view;
    let mut lines: Vec<String> = headline(view).wrapped(width).iter().map(Text::styled).collect();
    let mut fields = Fields::default();
    if let Some(since) = view.live_since {
        fields.add("live since", words::moment(since, view.at));
    }
    health(described, &mut fields);
    traffic(described, &mut fields);
    services(view, &mut fields);
    hosts(view, &mut fields);
    rollback(view, &mut fields);
    match (&view.operation, unwatched(view)) {
        (Some(operation), _) => open_operation(operation, described, &mut fields),
        (None, Some(since)) => {
            fields.add("bake", format!("unwatched since {}", words::moment(since, view.at)));
        }
        (None, None) => {}
    }
    for order in &view.orders {
        fields.add("ordered", waiting(order, view));
    }
    if let Some(controller) = &view.controller {
        fields.add("watched by", format!("controller {controller}"));
    }
    for warning in &described.warnings {
        fields.add("warning", Text::new(warn(), warning));
    }
    lines.extend(fields.render(2, width));
    lines
}

/// A deploy that no controller has taken yet.
fn waiting(order: &Request, view: &View) -> Text {
    let version = order.order.as_ref().map(|order| order.release.content.version.to_string());
    let since = words::moment(order.created_at, view.at);
    Text::from(format!("deploy of {}", version.unwrap_or_default()))
        .then(format!(" by {}, ", order.requested_by))
        .and(warn(), format!("waiting for a controller since {since}"))
}

fn headline(view: &View) -> Text {
    let name = Text::new(BOLD, view.environment.key.to_string()).then("  ");
    let Some(live) = &view.live else {
        let words = match (view.environment.live, view.known) {
            (Some(number), _) => format!("#{number} is live, but its record can't be read"),
            (None, true) => "nothing is live".to_owned(),
            (None, false) => "nothing was deployed yet".to_owned(),
        };
        return name.and(if view.environment.live.is_some() { bad() } else { PLAIN }, words);
    };
    let health = view.health_now();
    name.and(BOLD, format!("#{} {}", live.number, live.version))
        .then("  ")
        .and(of_status(live.status), live.status.as_str())
        .then("  ")
        .and(of_health(health), health.as_str())
}

fn health(described: &Described<'_>, fields: &mut Fields) {
    let view = described.view;
    if view.live.is_none() {
        return;
    }
    let now = view.health_now();
    fields.add(
        "health",
        match &view.health {
            None => Text::new(DIM, "nobody has looked yet; `backout status --check` probes now"),
            Some(last) if view.health_is_fresh() => Text::new(of_health(now), now.as_str())
                .then(format!(", checked {}", words::age(last.checked_at, view.at))),
            Some(last) => Text::from("unknown: last seen ")
                .and(of_health(last.overall), last.overall.as_str())
                .then(format!(" {}", words::age(last.checked_at, view.at)))
                .and(DIM, "; `backout status --check` probes now"),
        },
    );
    for finding in &described.findings {
        fields.add("", Text::new(of_health(now.max(Health::Warning)), finding));
    }
}

fn traffic(described: &Described<'_>, fields: &mut Fields) {
    let TrafficView::Known(traffic) = &described.view.traffic else { return };
    let live = described.view.environment.live;
    let mut text = Text::default();
    for share in &described.shares {
        let style = if Some(share.deployment) == live { good() } else { warn() };
        if !text.is_empty() {
            text = text.then(", ");
        }
        text = text.then(format!("#{} {} ", share.deployment, share.version));
        text = text.and(style, format!("{} %", share.percent));
    }
    if text.is_empty() {
        text = Text::new(bad(), "none: no side gets requests");
    }
    if let Some(listen) = traffic.listen {
        text = text.and(DIM, format!("  on {listen}"));
    }
    let back: Vec<String> = traffic
        .dead_man
        .iter()
        .map(|armed| format!("after {} without a watcher", words::duration(armed.after_ms)))
        .chain(traffic.trip.iter().map(|_| "when its errors are beyond doubt".to_owned()))
        .collect();
    let stable = traffic.dead_man.map(|armed| armed.stable);
    if let Some(stable) = stable.or(traffic.trip.map(|armed| armed.stable)) {
        text = text.and(DIM, format!("  back to slot {stable} {}", back.join(", or ")));
    }
    fields.add("traffic", text);
}

fn services(view: &View, fields: &mut Fields) {
    let Some(release) = &view.release else { return };
    if release.content.services.len() < 2 {
        return;
    }
    for (label, service) in labels("services").zip(release.content.services.values()) {
        let health = service_health(view, service.name.as_str());
        let widest = release.content.services.keys().map(|name| name.as_str().len()).max();
        let name = format!("{:1$}  ", service.name, widest.unwrap_or(0));
        let version = match release.content.origins.is_empty() {
            true => String::new(),
            false => format!("{}  ", release.content.version_of(&service.name)),
        };
        fields.add(label, Text::from(name).then(version).and(of_health(health), health.as_str()));
    }
}

/// How it does on other hosts: how many are well, and by name those that are not.
fn hosts(view: &View, fields: &mut Fields) {
    const NAMED: usize = 5;
    let live = view.live.as_ref().and_then(|live| view.environment.slots.get(&live.slot));
    let Some(record) = live.filter(|record| !record.hosts.is_empty()) else { return };
    let mut all = Vec::new();
    for service in &record.services {
        for host in record.hosts_of(service) {
            let health = host_health(view, service.as_str(), &host);
            all.push((format!("{service}@{host}"), health));
        }
    }
    let is_well = |health: &Health| matches!(health, Health::Healthy | Health::Warning);
    let unwell: Vec<_> = all.iter().filter(|(_, health)| !is_well(health)).collect();
    let count = format!("{} of {} healthy", all.len() - unwell.len(), all.len());
    let worst = all.iter().map(|(_, health)| *health).max().unwrap_or(Health::Unknown);
    let mut text = Text::new(of_health(worst), count);
    for (who, health) in unwell.iter().take(NAMED) {
        text = text.then(", ").then(who.clone()).then(" ").and(of_health(*health), health.as_str());
    }
    if unwell.len() > NAMED {
        text = text.then(format!(" and {} more", unwell.len() - NAMED));
    }
    fields.add("hosts", text);
}

/// The label once, then nothing.
fn labels(label: &str) -> impl Iterator<Item = &str> {
    std::iter::once(label).chain(std::iter::repeat(""))
}

fn rollback(view: &View, fields: &mut Fields) {
    match &view.readiness {
        Some(report) => fields.add("rollback", readiness(report, view)),
        None if view.live.is_some() => fields.add(
            "rollback",
            Text::new(
                DIM,
                "nothing to go back to yet: the next deploy makes this one the way back",
            ),
        ),
        None => {}
    }
}

fn readiness(report: &ReadinessReport, view: &View) -> Text {
    let to = way_back(report);
    let age = words::age(report.checked_at, view.at);
    if !report.ready {
        let failing: Vec<&str> = report
            .checks
            .iter()
            .filter(|check| check.status == Severity::Error)
            .map(|check| check.name.as_str())
            .collect();
        return Text::new(bad(), "NOT ready")
            .then(format!(" to {to}: {}", failing.join(", ")))
            .and(DIM, format!(" (checked {age})"));
    }
    let expected =
        report.expected_ms.map(|ms| format!(", about {}", words::duration(ms))).unwrap_or_default();
    let drilled = match drill_of(view, report) {
        Some(drill) => format!(", drilled {}", words::age(drill.at, view.at)),
        None if report.checks.iter().any(is_never_rehearsed) => ", never rehearsed".to_owned(),
        None => String::new(),
    };
    Text::new(good(), "ready")
        .then(format!(" to {to}{expected}"))
        .and(DIM, format!(" (proven {age}{drilled})"))
}

/// Where a rollback leads: a deployment, or what there was before any.
pub(super) fn way_back(report: &ReadinessReport) -> String {
    match &report.found {
        Some(found) => format!("{}: {found}", report.version),
        None => format!("#{} {}", report.deployment, report.version),
    }
}

fn is_never_rehearsed(check: &ReadinessCheck) -> bool {
    check.name == "old_release_startable" && check.status == Severity::Warning
}

fn what(plan: &Plan) -> String {
    let number = plan.deployment.map(|n| format!(" #{n}")).unwrap_or_default();
    let version = plan.version.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
    format!("{}{number}{version}", plan.kind)
}

fn open_operation(operation: &Operation, described: &Described<'_>, fields: &mut Fields) {
    let view = described.view;
    let what = what(&operation.plan);
    let step = match at_step(operation) {
        Some((name, Some(detail))) => format!("{name} {detail}"),
        Some((name, None)) => name,
        None => "its end".to_owned(),
    };
    let since = words::age(operation.plan.planned_at, view.at);
    let holder = view.lease.as_ref().map_or("nobody", |lease| lease.holder.label.as_str());
    let paused = operation.state.as_ref().is_ok_and(|state| state.paused);
    let text = match operation.standing() {
        Standing::Running => Text::from(format!("{what}: "))
            .and(BOLD, step)
            .and(warn(), if paused { " (paused)" } else { "" })
            .and(DIM, format!("  began {since}, by {holder}")),
        Standing::Unwatched => {
            let since = unwatched(view).unwrap_or(view.at);
            Text::from(format!("{what}: "))
                .and(warn(), format!("baking, unwatched since {}", words::moment(since, view.at)))
        }
        Standing::Interrupted => Text::from(format!("{what}: "))
            .and(bad(), format!("interrupted at {step}"))
            .and(DIM, format!("  began {since}, {holder} is gone")),
        Standing::Stuck { step, reason } => Text::from(format!("{what}: "))
            .and(bad(), format!("STUCK at {step}"))
            .then(format!(": {reason}")),
        Standing::Quarantined(why) => Text::from(format!("{what}: "))
            .and(bad(), "its journal can't be read")
            .then(format!(": {why}")),
    };
    fields.add("operation", text);
    if let Ok(state) = &operation.state
        && let Some(failure) = &state.failing
    {
        fields.add(
            "",
            Text::new(bad(), "failing").then(format!(": {}", failure.evidence.join("; "))),
        );
    }
    for way in &described.ways {
        fields.add("", Text::new(command(), &way.command).unbroken());
        fields.add("", Text::new(DIM, format!("  {}", way.what)));
    }
}
