//! What really runs in a unit, from the engine alone.

use std::time::Duration;

use backout_core::ids::{ReleaseId, Slot, Unit, Version};
use backout_core::model::{ComposeSpec, Release};
use backout_core::ports::{AdapterError, Exit, Marker, Observed, OwnHealth, Running};

use super::place::Place;
use super::{ComposeTargetOptions, labels, project};
use crate::artifact::IMAGE_SCHEME;
use crate::docker::{Call, Container};

/// Bytes of output in an observation.
const TAIL_BYTES: usize = 2048;
/// In the place of a release that is none of ours.
const UNMANAGED: &str = "unmanaged";

pub(super) async fn observe(
    options: &ComposeTargetOptions,
    unit: &Unit,
    release: Option<&Release>,
) -> Result<Observed, AdapterError> {
    let containers = without_ejected(options, unit, labelled(options, unit).await?);
    if !containers.is_empty() {
        let mut seen = summary(&containers, release, wanted(options, unit, release));
        seen.tail = tail(options, &containers, &seen).await;
        return Ok(seen);
    }
    let foreign = foreign(options, unit, release).await?;
    let mut seen = as_unit(options, unit, release, &foreign);
    seen.tail = tail(options, &foreign, &seen).await;
    Ok(seen)
}

/// What stands where a unit is about to be started.
pub(super) struct Standing {
    /// Containers of the slot's project, whoever started them.
    pub in_project: Vec<Container>,
    /// Containers with the unit's labels, in whatever project.
    pub labelled: Vec<Container>,
    /// What they are as a unit, without last words.
    pub seen: Observed,
}

/// As [`observe`], with what it was seen in. Waits for an engine that is started again.
pub(super) async fn standing(
    options: &ComposeTargetOptions,
    spec: &ComposeSpec,
    unit: &Unit,
    release: &Release,
    patience: Duration,
) -> Result<Standing, AdapterError> {
    let [mut in_project, labelled] = options
        .docker
        .containers_with([&[of_slot(spec, unit.slot)], &labels::of_unit(unit)], patience)
        .await?;
    in_project.retain(is_service);
    let ours = without_ejected(options, unit, labelled.clone());
    let seen = if ours.is_empty() {
        let foreign = foreign_in(options, unit, spec, in_project.clone());
        as_unit(options, unit, Some(release), &foreign)
    } else {
        summary(&ours, Some(release), wanted(options, unit, Some(release)))
    };
    Ok(Standing { in_project, labelled, seen })
}

/// Containers with the labels of this unit.
pub(super) async fn labelled(
    options: &ComposeTargetOptions,
    unit: &Unit,
) -> Result<Vec<Container>, AdapterError> {
    options.docker.containers(&labels::of_unit(unit)).await
}

/// What was let go is not ours any more, whatever its labels say.
fn without_ejected(
    options: &ComposeTargetOptions,
    unit: &Unit,
    mut containers: Vec<Container>,
) -> Vec<Container> {
    let gone = Place::of(options, &unit.key).ejected(unit);
    containers.retain(|c| !gone.contains(&c.id));
    containers
}

/// How many containers a release asks for; 0 where it does not say.
fn wanted(options: &ComposeTargetOptions, unit: &Unit, release: Option<&Release>) -> usize {
    let replicas = options.spec(unit, release).ok().and_then(|spec| spec.replicas);
    replicas.and_then(|replicas| usize::try_from(replicas.count).ok()).unwrap_or(0)
}

/// What others started, as a unit.
fn as_unit(
    options: &ComposeTargetOptions,
    unit: &Unit,
    release: Option<&Release>,
    foreign: &[Container],
) -> Observed {
    if foreign.is_empty() {
        return Observed::nothing();
    }
    let count = wanted(options, unit, release);
    let mut seen = Observed { marker: None, deployment: None, ..summary(foreign, release, count) };
    seen.release = release.map(|release| identity(foreign, release, unit));
    seen.version =
        release.filter(|r| seen.release.as_ref() == Some(&r.id)).map(|r| r.content.version.clone());
    seen
}

/// Containers of a slot's project, whoever started them, one-off commands aside.
pub(super) async fn of_project(
    options: &ComposeTargetOptions,
    spec: &ComposeSpec,
    slot: Slot,
) -> Result<Vec<Container>, AdapterError> {
    let mut containers = options.docker.containers(&[of_slot(spec, slot)]).await?;
    containers.retain(is_service);
    Ok(containers)
}

/// The label of all that compose makes for a slot.
fn of_slot(spec: &ComposeSpec, slot: Slot) -> String {
    format!("{}={}", labels::PROJECT, project(spec, slot))
}

/// Whether it is one of a service's, and no one-off command.
fn is_service(container: &Container) -> bool {
    container.label(labels::ONE_OFF) != Some("True")
}

/// What somebody else started as this unit: it stands in the first slot's project without a label of ours.
pub(super) async fn foreign(
    options: &ComposeTargetOptions,
    unit: &Unit,
    release: Option<&Release>,
) -> Result<Vec<Container>, AdapterError> {
    if unit.slot != Slot::A {
        return Ok(Vec::new());
    }
    let spec = options.spec(unit, release)?;
    let containers = of_project(options, spec, unit.slot).await?;
    Ok(foreign_in(options, unit, spec, containers))
}

/// Those of a project.
fn foreign_in(
    options: &ComposeTargetOptions,
    unit: &Unit,
    spec: &ComposeSpec,
    mut containers: Vec<Container>,
) -> Vec<Container> {
    if unit.slot != Slot::A {
        return Vec::new();
    }
    let gone = Place::of(options, &unit.key).ejected(unit);
    containers.retain(|c| labels::owner(c).is_none() || gone.contains(&c.id));
    let service = |c: &Container| c.label(labels::COMPOSE_SERVICE).unwrap_or_default().to_owned();
    if !spec.services.is_empty() {
        containers.retain(|c| spec.services.contains(&service(c)));
    } else if options.services.len() > 1
        || containers.iter().any(|c| service(c) == unit.service.as_str())
    {
        containers.retain(|c| service(c) == unit.service.as_str());
    }
    containers
}

/// What was adopted is known by its image: nothing else says which release it is.
pub(super) fn has_image_of(c: &Container, release: &Release, unit: &Unit) -> bool {
    let name = c.label(labels::COMPOSE_SERVICE).unwrap_or_default();
    release.content.artifacts.iter().any(|artifact| {
        artifact.service == unit.service
            && artifact.path.starts_with(&format!("{name}="))
            && artifact.digest == format!("{IMAGE_SCHEME}{}", c.image)
    })
}

fn identity(containers: &[Container], release: &Release, unit: &Unit) -> ReleaseId {
    let same = containers.iter().all(|c| has_image_of(c, release, unit));
    if same { release.id.clone() } else { unmanaged() }
}

fn unmanaged() -> ReleaseId {
    ReleaseId::new(UNMANAGED).expect("it is a valid id")
}

/// A job that has ended well.
pub(super) fn is_done(c: &Container) -> bool {
    c.label(labels::JOB).is_some() && c.state.status == "exited" && c.state.exit_code == 0
}

/// Containers as one unit: it runs if each of them does, and at least `count`; jobs that have ended well aside.
fn summary(containers: &[Container], release: Option<&Release>, count: usize) -> Observed {
    let working: Vec<&Container> = containers.iter().filter(|c| !is_done(c)).collect();
    let wanted =
        containers.iter().filter_map(|c| c.label(labels::SERVICES)).flat_map(|all| all.split(','));
    let missing = wanted
        .into_iter()
        .any(|name| !containers.iter().any(|c| c.label(labels::COMPOSE_SERVICE) == Some(name)));
    let runs = !missing && !working.is_empty() && working.iter().all(|c| c.is_running());
    let runs = runs && working.len() >= count;
    let serving = working.iter().find(|c| c.label(labels::PORT).is_some());
    let first = serving.or(working.first()).copied().or(containers.first());
    let address = match serving {
        Some(serving) => serving.address(serving.label(labels::PORT)),
        None => containers.iter().find_map(|c| c.address(None)),
    };
    let id = identity_of_labels(containers, release);
    let of_first = |name: &str| first.and_then(|c| c.label(name));
    Observed {
        running: if runs { Running::Yes } else { Running::No },
        version: of_first(labels::VERSION).and_then(|v| Version::new(v).ok()),
        release: id,
        deployment: of_first(labels::DEPLOYMENT).and_then(|number| number.parse().ok()),
        health: health(&working),
        address,
        pid: first.map(|c| c.state.pid).filter(|pid| *pid > 0),
        restarts: working.iter().map(|c| c.restart_count).fold(0, u32::saturating_add),
        last_exit: ends(&working, containers),
        gave_up: working.iter().any(|c| c.is_given_up()),
        tail: None,
        marker: of_first(labels::LEDGER)
            .and_then(|ledger| backout_core::ids::LedgerId::new(ledger).ok())
            .map(|ledger| Marker { ledger }),
        ..Observed::nothing()
    }
}

/// The last end of what should run, or of jobs where there is nothing else.
fn ends(working: &[&Container], all: &[Container]) -> Option<Exit> {
    let newest = |ends: &mut dyn Iterator<Item = Exit>| ends.max_by_key(|exit| exit.at);
    match working {
        [] => newest(&mut all.iter().filter_map(Container::last_exit)),
        working => newest(&mut working.iter().filter_map(|c| c.last_exit())),
    }
}

/// The release that all containers were started for. Where they differ, one that is not the expected: half of a
/// release is not that release.
fn identity_of_labels(containers: &[Container], release: Option<&Release>) -> Option<ReleaseId> {
    let mut ids = containers.iter().map(|c| {
        let other_image = c
            .label(labels::IMAGE)
            .is_some_and(|image| image != format!("{IMAGE_SCHEME}{}", c.image));
        match c.label(labels::RELEASE).and_then(|id| ReleaseId::new(id).ok()) {
            Some(id) if !other_image => id,
            _ => unmanaged(),
        }
    });
    let first = ids.next()?;
    let other = ids.find(|id| *id != first);
    match (other, release) {
        (Some(other), Some(release)) if first == release.id => Some(other),
        (Some(_), None) => Some(unmanaged()),
        _ => Some(first),
    }
}

/// The worst of all health checks.
fn health(working: &[&Container]) -> OwnHealth {
    let of = |status: &str| {
        working.iter().any(|c| c.state.health.as_ref().is_some_and(|h| h.status == status))
    };
    match () {
        () if of("unhealthy") => OwnHealth::Failing,
        () if of("starting") => OwnHealth::Starting,
        () if of("healthy") => OwnHealth::Passing,
        () => OwnHealth::None,
    }
}

/// Last words of the first container that does not do well.
async fn tail(
    options: &ComposeTargetOptions,
    containers: &[Container],
    seen: &Observed,
) -> Option<String> {
    if seen.running == Running::Yes && seen.health != OwnHealth::Failing {
        return None;
    }
    let ill = |c: &&Container| {
        !c.is_running() || c.state.health.as_ref().is_some_and(|h| h.status == "unhealthy")
    };
    let ill = containers.iter().find(ill)?;
    let call = Call::look(["logs", "--tail", "20", ill.id.as_str()]);
    let logs = options.docker.run(call).await.ok()?;
    let name = ill.name.trim_start_matches('/');
    let mut text = format!("{name} is {}", ill.state.status);
    if !ill.state.error.is_empty() {
        text.push_str(&format!(": {}", ill.state.error));
    }
    for stream in [&logs.stdout, &logs.stderr] {
        let words = stream.last_text(TAIL_BYTES / 2 - 200);
        if !words.is_empty() {
            text.push('\n');
            text.push_str(&words);
        }
    }
    let mut end = TAIL_BYTES.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    Some(text)
}
