//! What is in the way of a start.

use backout_core::ids::{Slot, Unit};
use backout_core::model::Release;
use backout_core::ports::AdapterError;

use super::definition::{self, Definition};
use super::place::Place;
use super::start::{belongs_to_other, is_taken};
use super::{ComposeTargetOptions, elsewhere, labels, observe, project};
use crate::docker::Container;
use crate::host::procfs;

pub(super) async fn obstacles(
    options: &ComposeTargetOptions,
    unit: &Unit,
    release: &Release,
) -> Result<Vec<String>, AdapterError> {
    let spec = options.spec(unit, Some(release))?;
    let name = project(spec, unit.slot);
    let in_project = observe::of_project(options, spec, unit.slot).await?;
    let other = |c: &&Container| labels::owner(c).is_some() && !labels::is_of(c, &unit.key);
    if let Some(other) = in_project.iter().find(other) {
        return Ok(vec![belongs_to_other(other, &name).to_string()]);
    }
    let adopted = Place::of(options, &unit.key).adopted(unit);
    let is_foreign = |c: &&Container| {
        let service = c.label(labels::COMPOSE_SERVICE).unwrap_or_default();
        c.is_running() && labels::owner(c).is_none() && adopted.get(service) != Some(&c.image)
    };
    let foreign = in_project.iter().filter(is_foreign);
    let foreign: Vec<&str> = foreign.filter_map(|c| c.label(labels::COMPOSE_SERVICE)).collect();
    if !foreign.is_empty() {
        let remedy = match adopted.is_empty() {
            true => "`backout adopt` records it as the way back".to_owned(),
            false => format!("it is not what was adopted: `docker compose -p {name} stop` ends it"),
        };
        return Ok(vec![format!(
            "compose project {name} runs already ({}), and Backout did not start it: {remedy}",
            foreign.join(", ")
        )]);
    }
    // Behind a router each slot has a port of its own; without one there is only the first.
    if options.beside || unit.slot != Slot::A {
        return Ok(Vec::new());
    }
    let version = &release.content.version;
    let definition = Definition { folder: &options.folder, spec, key: &unit.key, version };
    let model = definition::resolve(&options.docker, &definition, &options.secrets).await?;
    let members = if spec.services.is_empty() { model.names() } else { spec.services.clone() };
    let held: Vec<u16> =
        in_project.iter().filter(|c| c.is_running()).flat_map(Container::host_ports).collect();
    let mut found = Vec::new();
    if let Err(error) =
        elsewhere::check(&options.docker, &definition, &options.secrets, &members).await
    {
        found.push(error.to_string());
    }
    let there = elsewhere::listening(&options.docker).await?;
    let is_taken = |port| there.as_ref().map_or_else(|| is_taken(port), |all| all.contains(&port));
    for service in &members {
        for port in model.ports(service).into_iter().filter_map(|port| port.host) {
            // What this project holds is replaced by the start.
            if held.contains(&port) || !is_taken(port) {
                continue;
            }
            let owners = if there.is_some() { Vec::new() } else { procfs::listeners(port).0 };
            let by = owners
                .first()
                .map(|p| format!(" by process {} (`{}`)", p.pid, p.name))
                .unwrap_or_default();
            found.push(format!(
                "port {port} of {service} is taken{}{by}: stop it, or publish another port",
                options.docker.on_host()
            ));
        }
    }
    Ok(found)
}
