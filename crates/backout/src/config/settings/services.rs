//! The deployable parts, and what they demand of each other.

use std::collections::{BTreeMap, BTreeSet};

use backout_core::ids::{AppName, ServiceName};
use backout_core::model::{
    HealthSpec, JobSpec, Policy, PortSpec, RouterPolicy, Service, Strategy, TargetSpec,
};

use super::target::{self, Around};
use super::{Findings, compose, git, health, systemd};
use crate::config::errors::{Problem, nearest};
use crate::config::node::Position;
use crate::config::raw::{At, EnvText, Raw, RawOnRollback, RawRouter, RawService, RawTarget};

/// The services as written: name, where, and what differs from the top.
fn written<'a>(raw: &'a Raw, app: &'a str) -> Vec<(Position, &'a str, Option<&'a RawService>)> {
    let entries =
        raw.services.as_ref().map(|services| services.value.0.as_slice()).unwrap_or_default();
    if entries.is_empty() {
        let at = raw.target.as_ref().map_or_else(Position::default, |target| target.at);
        return vec![(at, app, None)];
    }
    entries.iter().map(|(key, service)| (key.at, key.value.as_str(), service.as_ref())).collect()
}

/// All entries of process environments.
pub(super) fn env_entries(raw: &Raw) -> impl Iterator<Item = (&At<String>, Option<&EnvText>)> {
    let base = match raw.target.as_ref().map(|target| &target.value) {
        Some(RawTarget::Process(process)) => process.env.as_ref(),
        Some(RawTarget::Compose(compose)) => compose.env.as_ref(),
        _ => None,
    };
    let services = raw.services.iter().flat_map(|services| &services.value.0);
    let own =
        services.filter_map(|(_, service)| service.as_ref()?.env.as_ref()).map(|env| &env.value);
    base.into_iter().chain(own).flat_map(|env| &env.0).map(|(key, value)| (key, value.as_ref()))
}

pub(super) fn services(
    raw: &Raw,
    app: &AppName,
    default_project: &str,
    secrets: &[String],
    found: &mut Findings,
) -> BTreeMap<ServiceName, Service> {
    let mut services = BTreeMap::new();
    let Some(target) = &raw.target else {
        found.refuse(Problem::whole("`target` is missing").hint(
            "say what runs the service, such as `target: { process: { command: [./server] } }`, or run `backout init`",
        ));
        return services;
    };
    for (at, name, own) in written(raw, app.as_str()) {
        let Some(name) = found.name(at, ServiceName::new(name)) else { continue };
        let around = Around {
            at,
            name: name.as_str(),
            traffic: own.is_none_or(|own| own.traffic.is_none() && !is_job(own)),
            builtin_router: matches!(raw.router, Some(At { value: RawRouter::Builtin(_), .. })),
            has_config: raw.config.as_ref().is_some_and(|config| !config.is_empty()),
            secrets,
        };
        let target = match &target.value {
            RawTarget::Process(base) => {
                target::process(base, own, &around, found).map(TargetSpec::Process)
            }
            RawTarget::Script(base) => {
                target::script(base, own, &around, found).map(TargetSpec::Script)
            }
            RawTarget::Git(base) => git::git(base, own, &around, found).map(TargetSpec::Git),
            RawTarget::Systemd(base) => {
                let several = raw.services.as_ref().is_some_and(|all| all.value.0.len() > 1);
                systemd::systemd(base, own, several, &around, found).map(TargetSpec::Systemd)
            }
            RawTarget::Compose(base) => {
                let images = raw.artifacts.as_ref();
                let made = compose::compose(base, own, images, default_project, &around, found);
                made.map(TargetSpec::Compose)
            }
        };
        let has_port = matches!(&target, Some(TargetSpec::Process(process)) if process.port.is_some())
            || matches!(&target, Some(TargetSpec::Systemd(unit)) if unit.port.is_some())
            || matches!(&target, Some(TargetSpec::Compose(_)));
        let health =
            health::probes(raw.health.as_ref(), own, &around, has_port || target.is_none(), found);
        let depends_on = depends_on(raw, &name, own, found);
        let job = job(raw, own, found);
        if let Some(target) = target {
            let service = Service {
                name: name.clone(),
                depends_on,
                traffic: around.traffic,
                health,
                target,
                job,
            };
            services.insert(name, service);
        }
    }
    refuse_cycle(raw, &services, found);
    services
}

fn is_job(own: &RawService) -> bool {
    own.job.as_ref().is_some_and(|job| job.value)
}

fn job(raw: &Raw, own: Option<&RawService>, found: &mut Findings) -> Option<JobSpec> {
    let own = own?;
    if !is_job(own) {
        if let Some(written) = &own.on_rollback {
            found.refuse_at(
                written.at,
                "only a job has `on_rollback`",
                "write `job: true` beside it",
            );
        }
        return None;
    }
    let at = own.job.as_ref().map(|job| job.at).unwrap_or_default();
    match raw.target.as_ref().map(|target| &target.value) {
        Some(RawTarget::Process(_) | RawTarget::Compose(_) | RawTarget::Script(_)) => {}
        _ => found.refuse_at(
            at,
            "a job needs target `process`, `compose` or `script`",
            "let something else run it, such as `post_checkout` of target git",
        ),
    }
    if let Some(health) = &own.health {
        let hint = "its exit code says how it went; remove `health`";
        found.refuse_at(health.at, "a job has no health check", hint);
    }
    let again = own.on_rollback.as_ref().is_some_and(|on| on.value == RawOnRollback::Run);
    let timeout_ms = found.positive("timeout", own.timeout.as_ref(), 600_000);
    Some(JobSpec { timeout_ms, on_rollback: again })
}

fn depends_on(
    raw: &Raw,
    name: &ServiceName,
    own: Option<&RawService>,
    found: &mut Findings,
) -> BTreeSet<ServiceName> {
    let names = || {
        raw.services
            .iter()
            .flat_map(|services| &services.value.0)
            .map(|(key, _)| key.value.as_str())
    };
    let mut out = BTreeSet::new();
    for wanted in own.and_then(|own| own.depends_on.as_ref()).into_iter().flatten() {
        if wanted.value == name.as_str() {
            found.refuse(Problem::at(wanted.at, format!("service `{name}` depends on itself")));
        } else if names().any(|other| other == wanted.value) {
            out.extend(ServiceName::new(wanted.value.as_str()));
        } else {
            let problem = Problem::at(wanted.at, format!("there is no service `{}`", wanted.value));
            found.refuse(match nearest(&wanted.value, names()) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => problem
                    .hint(format!("services here: {}", names().collect::<Vec<_>>().join(", "))),
            });
        }
    }
    out
}

/// Names the services of a cycle, in its order.
fn refuse_cycle(raw: &Raw, services: &BTreeMap<ServiceName, Service>, found: &mut Findings) {
    let mut done: BTreeSet<&ServiceName> = BTreeSet::new();
    for start in services.keys() {
        let mut trail: Vec<&ServiceName> = Vec::new();
        let mut stack: Vec<(&ServiceName, bool)> = vec![(start, false)];
        while let Some((name, leaving)) = stack.pop() {
            if leaving {
                trail.pop();
                done.insert(name);
                continue;
            }
            if let Some(from) = trail.iter().position(|other| *other == name) {
                let mut words: Vec<&str> = trail[from..].iter().map(|name| name.as_str()).collect();
                words.push(name.as_str());
                let at = raw
                    .services
                    .iter()
                    .flat_map(|services| &services.value.0)
                    .find(|(key, _)| key.value == name.as_str())
                    .map_or_else(Position::default, |(key, _)| key.at);
                let message =
                    format!("services depend on each other in a circle: {}", words.join(" → "));
                return found.refuse_at(at, message, "remove one of these from `depends_on`");
            }
            if done.contains(name) {
                continue;
            }
            trail.push(name);
            stack.push((name, true));
            let next = services.get(name).into_iter().flat_map(|service| &service.depends_on);
            stack.extend(next.map(|name| (name, false)));
        }
    }
}

/// Something has to go on, or nothing could be watched.
fn refuse_only_jobs(
    services: &BTreeMap<ServiceName, Service>,
    at_of: &dyn Fn(&ServiceName) -> Position,
    found: &mut Findings,
) {
    let Some(first) = services.keys().next() else { return };
    if services.values().all(|service| service.job.is_some()) {
        let hint = "add the service that it is for, or let `cron` run it";
        let message = "there is nothing but jobs, so that nothing could be watched";
        found.refuse_at(at_of(first), message, hint);
    }
}

/// Two services can't have one unit, nor one link.
fn refuse_shared_places(
    services: &BTreeMap<ServiceName, Service>,
    at_of: &impl Fn(&ServiceName) -> Position,
    found: &mut Findings,
) {
    let units = services.values().filter_map(|service| match &service.target {
        TargetSpec::Systemd(unit) => Some((at_of(&service.name), service.name.as_str(), unit)),
        _ => None,
    });
    systemd::refuse_shared(units, found);
    let trees = services.values().filter_map(|service| match &service.target {
        TargetSpec::Git(spec) => Some((at_of(&service.name), service.name.as_str(), spec)),
        _ => None,
    });
    git::refuse_shared(trees, found);
}

/// What depends on services, router and strategy together.
pub(super) fn check_together(
    raw: &Raw,
    services: &BTreeMap<ServiceName, Service>,
    policy: &Policy,
    found: &mut Findings,
) {
    let at_of = |name: &ServiceName| {
        let entries = raw.services.iter().flat_map(|services| &services.value.0);
        let key =
            entries.into_iter().find(|(key, _)| key.value == name.as_str()).map(|(key, _)| key.at);
        key.or(raw.target.as_ref().map(|target| target.at)).unwrap_or_default()
    };
    refuse_only_jobs(services, &at_of, found);
    let bearing: Vec<&Service> = services.values().filter(|service| service.traffic).collect();
    let router_at = raw.router.as_ref().map(|router| router.at).unwrap_or_default();
    if policy.router != RouterPolicy::None && bearing.is_empty() && !services.is_empty() {
        let hint = "remove `traffic: none` from one service, or remove `router`";
        found.refuse_at(router_at, "there is a router, but no service takes requests", hint);
    }
    let builtin = matches!(policy.router, RouterPolicy::Builtin { .. });
    if builtin && bearing.len() > 1 {
        let names: Vec<_> = bearing.iter().map(|service| format!("`{}`", service.name)).collect();
        found.refuse_at(
            at_of(&bearing[1].name),
            format!(
                "the built-in router serves one service, and {} take requests",
                names.join(", ")
            ),
            "write `traffic: none` for the others, or put each into a file of its own",
        );
    }
    refuse_shared_places(services, &at_of, found);
    let side_by_side = !matches!(policy.strategy, Strategy::Recreate | Strategy::Rolling { .. });
    for service in services.values() {
        let port = match &service.target {
            TargetSpec::Process(process) => process.port,
            TargetSpec::Systemd(unit) => unit.port,
            _ => None,
        };
        if let Some(PortSpec::Fixed(port)) = port
            && side_by_side
            && service.traffic
        {
            found.refuse_at(
                port_at(raw, &service.name).unwrap_or_else(|| at_of(&service.name)),
                format!(
                    "two releases side by side can't share port {port}, and the strategy is `{}`",
                    policy.strategy.as_str()
                ),
                "write `port: auto`, or `strategy: recreate`",
            );
        }
        let mute = match service.target {
            TargetSpec::Script(_) => Some("a script"),
            TargetSpec::Git(_) => Some("a working tree"),
            TargetSpec::Process(_) | TargetSpec::Compose(_) | TargetSpec::Systemd(_) => None,
        };
        let unknown = service.health.probes.is_empty() && service.job.is_none();
        if let Some(mute) = mute.filter(|_| unknown) {
            found.refuse_at(
                at_of(&service.name),
                format!(
                    "service `{}` has no health check, and {mute} can't tell by itself",
                    service.name
                ),
                "add one, such as `health: { http: { url: \"http://127.0.0.1:8080/health\" } }`",
            );
        }
        if builtin && side_by_side && service.traffic {
            warn_nameless(&service.name, &service.health, found);
        }
    }
}

fn port_at(raw: &Raw, name: &ServiceName) -> Option<Position> {
    let entries = raw.services.iter().flat_map(|services| &services.value.0);
    let own = entries
        .into_iter()
        .find(|(key, _)| key.value == name.as_str())
        .and_then(|(_, own)| own.as_ref());
    let base = match raw.target.as_ref().map(|target| &target.value) {
        Some(RawTarget::Process(process)) => process.port.as_ref(),
        Some(RawTarget::Systemd(unit)) => unit.port.as_ref(),
        _ => None,
    };
    own.and_then(|own| own.port.as_ref()).or(base).map(|port| port.at)
}

fn warn_nameless(name: &ServiceName, health: &HealthSpec, found: &mut Findings) {
    for probe in health.probes.iter().filter(|probe| !probe.names_a_side()) {
        found.warnings.push(format!(
            "service `{name}`: the {} check can't name a side, so it judges old and new together and never \
             promotes a stage alone; use {{port}} in it",
            probe.name()
        ));
    }
}
