//! What a release is made of: the services of the compose file that belong to it, and their images by digest.

use std::collections::BTreeMap;

use backout_core::ids::{ServiceName, Unit, Version};
use backout_core::model::{Artifact, ComposeSpec, EnvValue, Replicas, Service, TargetSpec};
use backout_core::ports::{AdapterError, PartsOf};

use super::definition::{self, Definition};
use super::model::Model;
use super::place::Place;
use super::replicas::{self, Alone};
use super::{ComposeTargetOptions, elsewhere, labels, observe};
use crate::artifact::{IMAGE_SCHEME, Pull};
use crate::docker::Container;

/// Fills in what is known only now, and names the images.
pub(super) async fn parts(
    options: &ComposeTargetOptions,
    unit: &Unit,
    service: &mut Service,
    version: &Version,
    of: PartsOf<'_>,
) -> Result<Vec<Artifact>, AdapterError> {
    let (traffic, is_job) = (service.traffic, service.job.is_some());
    let TargetSpec::Compose(spec) = &mut service.target else {
        return Err(AdapterError::permanent(format!(
            "failed to use {unit}: its service is not of target `compose`"
        )));
    };
    fill_in(spec, version);
    let (of, ahead) = match of {
        PartsOf::Ahead(of) => (*of, true),
        of => (of, false),
    };
    let copies = match of {
        PartsOf::Recorded(config) => {
            let copies = tempfile::tempdir().map_err(|e| AdapterError::transient(e.to_string()))?;
            let folder = copies.path().join("files");
            definition::lay_out(&folder, config, options.blobs.as_ref(), &options.secrets).await?;
            Some((copies, folder))
        }
        PartsOf::Disk | PartsOf::Running | PartsOf::Ahead(_) => None,
    };
    let folder = copies.as_ref().map_or(options.folder.as_path(), |(_, folder)| folder.as_path());
    let definition = Definition { folder, spec, key: &unit.key, version };
    let model = definition::resolve(&options.docker, &definition, &options.secrets).await?;
    let members = members(&model, spec, &options.services, unit)?;
    if options.beside {
        check_beside(&model, spec, &members, traffic)?;
    }
    let mut replicas = replicas(options, &model, &members, (traffic, is_job), of)?;
    if let (PartsOf::Running, Some(replicas), [name]) = (of, &mut replicas, members.as_slice()) {
        let there = observe::of_project(options, spec, unit.slot).await?;
        let of_it = |c: &&Container| c.label(labels::COMPOSE_SERVICE) == Some(name.as_str());
        replicas.count = u32::try_from(there.iter().filter(of_it).count()).unwrap_or(u32::MAX);
    }
    let grace_ms = members.iter().filter_map(|name| model.stop_grace_ms(name)).max();
    let shared = shared(&model, &options.services, &members);
    let all = [&members[..], &shared[..]].concat();
    elsewhere::check(&options.docker, &definition, &options.secrets, &all).await?;
    let running = match of {
        PartsOf::Running => Some(running_images(options, unit, spec, &members).await?),
        _ => None,
    };
    let mut artifacts: Vec<Artifact> = Vec::new();
    for name in members.iter().chain(&shared) {
        let reference = image(&model, spec, name);
        let artifact = match running.as_ref().and_then(|running| running.get(name)) {
            Some((shown, id)) => (shown.clone(), format!("{IMAGE_SCHEME}{id}")),
            None => {
                let pull = pull_of(&model, name);
                let resolved = match ahead {
                    true => options.images.foresee(&reference, pull).await,
                    false => options.images.resolve(&reference, pull).await,
                };
                let resolved = resolved.map_err(|error| explain(options, error, &model, name))?;
                (resolved.path, resolved.digest)
            }
        };
        let (path, digest) = artifact;
        let path = format!("{name}={path}");
        artifacts.push(Artifact { service: service.name.clone(), path, digest, kept: true });
    }
    if let Some(running) = &running {
        let images = running.iter().map(|(name, (_, id))| (name.clone(), id.clone())).collect();
        Place::of(options, &unit.key).adopt(unit, &images)?;
    }
    spec.services = members;
    spec.stop_grace_ms = grace_ms.unwrap_or(0);
    spec.replicas = replicas;
    Ok(artifacts)
}

/// The containers of a service that can be replaced some at a time; refused where that is wanted and impossible.
fn replicas(
    options: &ComposeTargetOptions,
    model: &Model,
    members: &[String],
    (traffic, is_job): (bool, bool),
    of: PartsOf<'_>,
) -> Result<Option<Replicas>, AdapterError> {
    if options.beside || is_job {
        return Ok(None);
    }
    // What runs already is recorded as it is; and only what serves goes on while it is replaced.
    let wanted = options.rolls && traffic && !matches!(of, PartsOf::Running);
    match (members, members.first().map(|name| (name, replicas::of(model, name)))) {
        ([_], Some((_, Ok(replicas)))) => Ok(Some(replicas).filter(|replicas| replicas.count > 0)),
        ([_], Some((name, Err(alone)))) if wanted => Err(alone.refuse(name)),
        (several, _) if wanted && several.len() > 1 => {
            let why = format!("which service is meant? There are {}", several.join(", "));
            let hint = "name those that are replaced, such as `services: { web: {} }`; the others run once";
            Err(Alone { why, hint }.refuse("a service"))
        }
        _ => Ok(None),
    }
}

fn fill_in(spec: &mut ComposeSpec, version: &Version) {
    let fill = |text: &mut String| *text = text.replace("{version}", version.as_str());
    for value in spec.env.values_mut() {
        if let EnvValue::Plain(text) = value {
            fill(text);
        }
    }
    spec.images.values_mut().for_each(fill);
}

/// The image of a service: what `artifacts:` says, else what the file says.
fn image(model: &Model, spec: &ComposeSpec, name: &str) -> String {
    spec.images.get(name).cloned().unwrap_or_else(|| model.image(name))
}

fn pull_of(model: &Model, name: &str) -> Pull {
    match model.pull_policy(name) {
        Some("never" | "build") => Pull::Never,
        Some("missing" | "if_not_present") => Pull::Missing,
        _ => Pull::Always,
    }
}

fn explain(
    options: &ComposeTargetOptions,
    error: AdapterError,
    model: &Model,
    name: &str,
) -> AdapterError {
    if !model.builds(name) {
        return error;
    }
    if options.docker.host().is_some() {
        return error.with_hint(format!(
            "{name} is built from a folder: build it, and push its image to a registry that the hosts reach"
        ));
    }
    error.with_hint(format!(
        "{name} is built from a folder: run `docker compose build {name}` before the deploy, or push its image"
    ))
}

/// The services of the compose file that belong to the unit, in the order in which they start: the one of the same
/// name, or all of them if the app has only this one.
fn members(
    model: &Model,
    spec: &ComposeSpec,
    services: &BTreeMap<ServiceName, Service>,
    unit: &Unit,
) -> Result<Vec<String>, AdapterError> {
    let names = model.names();
    let unknown = spec.images.keys().find(|name| !names.contains(name));
    let named = |what: &str| {
        AdapterError::permanent(format!(
            "failed to find service `{what}` in {}",
            spec.files.join(", ")
        ))
        .with_hint(format!("it has: {}", names.join(", ")))
    };
    if let Some(unknown) = unknown {
        return Err(named(unknown));
    }
    if names.iter().any(|name| name == unit.service.as_str()) {
        return Ok(vec![unit.service.to_string()]);
    }
    if services.len() > 1 {
        return Err(named(unit.service.as_str()));
    }
    if names.is_empty() {
        return Err(AdapterError::permanent(format!(
            "failed to read {}: it has no services",
            spec.files.join(", ")
        )));
    }
    Ok(model.start_order(&names))
}

/// Services of the compose file that belong to no service of the app: they run once, for both slots.
pub(super) fn shared(
    model: &Model,
    services: &BTreeMap<ServiceName, Service>,
    members: &[String],
) -> Vec<String> {
    let names = model.names();
    let free = |name: &&String| {
        !members.contains(name) && !services.keys().any(|service| service.as_str() == name.as_str())
    };
    let free: Vec<String> = names.iter().filter(free).cloned().collect();
    model.start_order(&free)
}

/// What can't work where two releases run side by side, said before anything is changed.
fn check_beside(
    model: &Model,
    spec: &ComposeSpec,
    members: &[String],
    traffic: bool,
) -> Result<(), AdapterError> {
    let refuse = |why: String, hint: &str| Err(AdapterError::permanent(why).with_hint(hint));
    let files = spec.files.join(", ");
    if members.len() > 1 {
        return refuse(
            format!(
                "failed to tell which service of {files} goes behind the router: there are {}",
                members.join(", ")
            ),
            "name it, such as `services: { web: {} }`; the others then run once for both releases",
        );
    }
    let Some(name) = members.first().filter(|_| traffic) else { return Ok(()) };
    let ports = model.ports(name);
    let target = spec.port.or(ports.first().map(|port| port.target));
    if target.is_none() {
        return refuse(
            format!("failed to find the port of {name} in {files}: it publishes none"),
            "say which one takes requests inside of the container: `target: { compose: { port: 8080 } }`",
        );
    }
    if model.uses_host_network(name) {
        return refuse(
            format!(
                "failed to run two releases of {name} side by side: it uses the host's network"
            ),
            "take network_mode: host away, or use `strategy: recreate` without a router",
        );
    }
    if let Some((network, range)) = model.fixed_network(name) {
        return refuse(
            format!(
                "failed to run two releases of {name} side by side: both would make network {network} with the addresses \
                 {range}"
            ),
            "take `ipam` away, make that network `external`, or use `strategy: recreate` without a router",
        );
    }
    if let Some(other) =
        ports.iter().find(|port| Some(port.target) != target && port.host.is_some())
    {
        return refuse(
            format!(
                "failed to run two releases of {name} side by side: both would publish port {}",
                other.host.unwrap_or_default()
            ),
            "publish only the port that takes requests; Backout gives each release its own",
        );
    }
    if model.scale(name) > 1 {
        return refuse(
            format!(
                "failed to run {} containers of {name} on one port each side",
                model.scale(name)
            ),
            "set scale and replicas to 1 behind the built-in router",
        );
    }
    Ok(())
}

/// Images of what runs now, by service: what it was started from, and the id of what it really is.
pub(super) async fn running_images(
    options: &ComposeTargetOptions,
    unit: &Unit,
    spec: &ComposeSpec,
    members: &[String],
) -> Result<BTreeMap<String, (String, String)>, AdapterError> {
    let containers = observe::of_project(options, spec, unit.slot).await?;
    let images: BTreeMap<_, _> = containers
        .into_iter()
        .filter_map(|c| {
            let name = c.label(super::labels::COMPOSE_SERVICE)?.to_owned();
            Some((name, (c.config.image.clone(), c.image.clone())))
        })
        .collect();
    match members.iter().find(|name| !images.contains_key(*name)) {
        None => Ok(images),
        Some(missing) => Err(AdapterError::permanent(format!(
            "failed to adopt: nothing runs for service {missing} in compose project {}",
            spec.project
        ))
        .with_hint(
            "`docker compose ls` shows the projects; name yours with target.compose.project",
        )),
    }
}
