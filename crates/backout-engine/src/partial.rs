//! Releases of which some services change and the others stay what they are.

use std::collections::{BTreeMap, BTreeSet};

use backout_core::ids::{ServiceName, Slot, Version};
use backout_core::model::{
    Artifact, ConfigFile, EnvironmentRecord, MIXED_RELEASE_FORMAT, Origin, Release, ReleaseContent,
    RouterPolicy, Service,
};
use backout_core::plan::{Action, Plan, PlanContext, Seen, Situation, shared_slot};
use backout_core::ports::{LedgerError, Observed, Running};
use backout_core::saga::EntryKind;

use crate::commands::Refused;
use crate::context::Context;
use crate::situation;

/// Where the named services of a mixed release come from.
pub(crate) enum Changed<'a> {
    /// A release that is made now: they are its own.
    New(&'a Release),
    /// An older release: they become again what they were there.
    Old(&'a Release),
}

/// A release in which the `named` services are those of `changed`, and all others those of `live`.
///
/// # Errors
/// Refused where such a release makes no sense.
pub(crate) fn mixed(
    cx: &Context,
    changed: &Changed<'_>,
    live: &Release,
    named: &BTreeSet<ServiceName>,
    config: Vec<ConfigFile>,
) -> Result<Release, Refused> {
    let from = match changed {
        Changed::New(release) | Changed::Old(release) => release,
    };
    let mut parts = Parts::default();
    for name in named {
        if parts.take(from, name) && matches!(changed, Changed::Old(_)) {
            parts.origins.insert(name.clone(), origin(from, name));
        }
    }
    for name in live.content.services.keys().filter(|name| !named.contains(*name)) {
        parts.take(live, name);
        parts.origins.insert(name.clone(), origin(live, name));
    }
    let whole = [live, from].into_iter().find(|release| parts.make_up(release, &config));
    if let Some(whole) = whole {
        return Ok(whole.clone());
    }
    let content = ReleaseContent {
        version: label(from, named),
        format: match parts.origins.is_empty() {
            true => from.content.format.max(live.content.format),
            false => MIXED_RELEASE_FORMAT,
        },
        app: cx.key.app.clone(),
        services: parts.services,
        artifacts: parts.artifacts,
        config,
        origins: parts.origins,
    };
    refuse_nonsense(cx, &content)?;
    let (created_at, created_by) = (cx.now(), cx.requested_by.clone());
    Ok(Release { id: content.id(), content, created_at, created_by })
}

/// The version that all of the named services have there, else that of the release.
fn label(release: &Release, named: &BTreeSet<ServiceName>) -> Version {
    let mut versions = named.iter().map(|name| release.content.version_of(name));
    match versions.next() {
        Some(first) if versions.all(|version| version == first) => first.clone(),
        _ => release.content.version.clone(),
    }
}

#[derive(Default)]
struct Parts {
    services: BTreeMap<ServiceName, Service>,
    artifacts: Vec<Artifact>,
    origins: BTreeMap<ServiceName, Origin>,
}

impl Parts {
    /// False where the release has no such service.
    fn take(&mut self, release: &Release, name: &ServiceName) -> bool {
        let Some(service) = release.content.services.get(name) else { return false };
        self.services.insert(name.clone(), service.clone());
        let of = release.content.artifacts.iter().filter(|artifact| artifact.service == *name);
        self.artifacts.extend(of.cloned());
        true
    }

    /// Whether these are the very services of a release that there is already.
    fn make_up(&self, release: &Release, config: &[ConfigFile]) -> bool {
        let same = |name: &ServiceName| {
            self.origins.get(name).is_some_and(|origin| origin.release == *release.runs_as(name))
        };
        release.content.config == config
            && self.services.keys().eq(release.content.services.keys())
            && self.services.keys().all(same)
    }
}

fn origin(release: &Release, name: &ServiceName) -> Origin {
    Origin {
        release: release.runs_as(name).clone(),
        version: release.content.version_of(name).clone(),
    }
}

fn refuse_nonsense(cx: &Context, content: &ReleaseContent) -> Result<(), Refused> {
    if let Some(circle) = content.circle() {
        let names: Vec<&str> = circle.iter().map(ServiceName::as_str).collect();
        let message =
            format!("services would depend on each other in a circle: {}", names.join(" → "));
        return Err(Refused::new(message, "name all of these with --service, or none"));
    }
    let kind = cx.policy.target;
    let other = content.services.values().find(|service| service.target.kind() != kind);
    if let Some(other) = other {
        let message = format!(
            "{} runs by target `{}`, and backout.yaml says `{}` now",
            other.name,
            other.target.kind().as_str(),
            kind.as_str()
        );
        return Err(Refused::new(message, "deploy the whole app, without --service"));
    }
    Ok(())
}

/// The `named` services, if every one of them is there.
///
/// # Errors
/// Refused, with those that there are.
pub(crate) fn known<'a>(
    named: &[ServiceName],
    there: impl Iterator<Item = &'a ServiceName>,
    place: &str,
) -> Result<BTreeSet<ServiceName>, Refused> {
    let there: Vec<&ServiceName> = there.collect();
    match named.iter().find(|name| !there.contains(name)) {
        None => Ok(named.iter().cloned().collect()),
        Some(name) => {
            let names: Vec<&str> = there.iter().map(|name| name.as_str()).collect();
            let message = format!("there is no service `{name}` in {place}");
            Err(Refused::new(message, format!("services there: {}", names.join(", "))))
        }
    }
}

/// Services that an operation began to change, whatever became of it.
pub(crate) async fn begun(cx: &Context, plan: &Plan) -> Result<BTreeSet<ServiceName>, LedgerError> {
    let entries = cx.ledger.entries(&plan.operation).await?;
    let started = entries.iter().filter_map(|entry| match &entry.kind {
        EntryKind::StepStarted { step, .. } => plan.steps.get(*step),
        _ => None,
    });
    let of = |step: &backout_core::plan::Step| match &step.action {
        Action::Start { service, .. } | Action::Stop { service, .. } => Some(service.clone()),
        _ => None,
    };
    Ok(started.filter_map(of).collect())
}

/// Looks at each service of `wanted` in the slot in which services are replaced one by one. `open` is a deploy that
/// has not ended: what it did not touch is still what was there before.
pub(crate) async fn seen(
    cx: &Context,
    pcx: &PlanContext<'_>,
    environment: &EnvironmentRecord,
    situation: &Situation,
    wanted: &Release,
    open: Option<&Plan>,
) -> Result<Seen, LedgerError> {
    let mut seen = Seen::default();
    let Some(slot) = shared_slot(pcx, situation, wanted) else { return Ok(seen) };
    let Some(record) = environment.slots.get(&slot) else { return Ok(seen) };
    let begun = match open {
        Some(plan) => begun(cx, plan).await?,
        None => BTreeSet::new(),
    };
    let held = situation::release(cx, &record.release).await?;
    // Whole releases have nothing in common but what an open deploy has not come to yet.
    let in_common =
        open.is_some() || !wanted.content.origins.is_empty() || !held.content.origins.is_empty();
    let before = match open.and_then(|plan| plan.from.as_ref()) {
        Some(from) => Some(situation::release(cx, &from.release).await?),
        None => None,
    };
    let there = |service: &&Service| {
        record.services.contains(&service.name) || crate::jobs::is_job(service)
    };
    for name in wanted.content.services.values().filter(there).map(|service| &service.name) {
        let untouched = before.as_deref().filter(|_| !begun.contains(name));
        let believed = untouched.unwrap_or(&held);
        let now = look(cx, slot, name, believed, wanted).await;
        match now {
            // What was begun may be half-done, whatever it looks like.
            Now::AsWanted if in_common && !begun.contains(name) => {
                seen.as_wanted.insert(name.clone());
            }
            Now::Down => {
                seen.down.insert(name.clone());
            }
            Now::AsWanted | Now::Other => {}
        }
    }
    Ok(seen)
}

/// Of a release that should run: what does, where a service can be started without the others, and what does not.
pub(crate) async fn up_and_down(
    cx: &Context,
    pcx: &PlanContext<'_>,
    situation: &Situation,
    live: &Release,
) -> Seen {
    let mut seen = Seen::default();
    let in_place = pcx.capabilities.replaces_in_place && cx.policy.router == RouterPolicy::None;
    let slot = shared_slot(pcx, situation, live).filter(|_| in_place);
    let Some(slot) = slot else { return seen };
    for service in live.content.services.values() {
        let units = situation::units(cx, &service.name, slot);
        let each = situation::observe_each(cx, units, Some(live)).await;
        let runs = |seen: &Observed| {
            let other = seen.release.as_ref().is_some_and(|id| *id != live.id);
            seen.running == Running::Yes && !other && !seen.orphaned
        };
        if crate::jobs::is_job(service) || each.iter().all(|(_, seen)| runs(seen)) {
            seen.as_wanted.insert(service.name.clone());
        } else {
            seen.down.insert(service.name.clone());
        }
    }
    seen
}

enum Now {
    AsWanted,
    Down,
    Other,
}

async fn look(
    cx: &Context,
    slot: Slot,
    name: &ServiceName,
    believed: &Release,
    wanted: &Release,
) -> Now {
    // A job has run, and is run again only where it is named.
    if wanted.content.services.get(name).is_some_and(crate::jobs::is_job) {
        let same = believed.runs_as(name) == wanted.runs_as(name);
        return if same { Now::AsWanted } else { Now::Other };
    }
    let units = situation::units(cx, name, slot);
    let observed = situation::observe_each(cx, units, Some(wanted)).await;
    if observed.iter().any(|(_, seen)| seen.running == Running::No) {
        return Now::Down;
    }
    let by_belief = believed.runs_as(name) == wanted.runs_as(name);
    let same = |seen: &Observed| match (&seen.release, &seen.version) {
        (Some(release), _) => *release == wanted.id,
        (None, Some(version)) => version == wanted.content.version_of(name) && by_belief,
        (None, None) => by_belief,
    };
    let as_wanted = observed.iter().all(|(_, seen)| same(seen) && !seen.orphaned);
    if as_wanted && !observed.is_empty() { Now::AsWanted } else { Now::Other }
}

/// Names of config files that differ between two releases.
pub(crate) fn differing_config(one: &[ConfigFile], other: &[ConfigFile]) -> Vec<String> {
    let only_in = |a: &[ConfigFile], b: &[ConfigFile]| -> Vec<String> {
        a.iter().filter(|file| !b.contains(file)).map(|file| file.path.clone()).collect()
    };
    let mut paths = only_in(one, other);
    paths.extend(only_in(other, one));
    paths.sort();
    paths.dedup();
    paths
}
