//! What the settings ask for beside files: a free port, a health URL that names a side, secrets.

use std::net::SocketAddr;

use backout_core::model::{RouterPolicy, Strategy, TargetKind};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};

use super::Item;
use crate::cli::reading::Place;
use crate::config::Settings;

/// All needs of an environment.
pub fn items(place: &Place) -> Vec<Item> {
    let settings = &place.loaded.settings;
    let mut items = vec![health(settings)];
    items.push(match settings.missing_secrets.as_slice() {
        [] => Item::pass(
            "secrets",
            match settings.policy.secrets.len() {
                0 => "none are named".to_owned(),
                count => format!("{count} named, those that a process needs are set"),
            },
        ),
        missing => Item::error("secrets", format!("not set: {}", missing.join(", ")))
            .fix("set them in the environment of whoever deploys, rolls back or recovers"),
    });
    items
}

/// During a rollout the new side's own address is probed: a URL without `{port}` or `{slot}` sees the mix.
fn health(settings: &Settings) -> Item {
    let name = "health";
    let strategy = &settings.policy.strategy;
    let side_by_side = !matches!(strategy, Strategy::Recreate | Strategy::Rolling { .. });
    let probes: Vec<_> = settings
        .services
        .values()
        .flat_map(|service| service.health.probes.iter().map(move |probe| (service, probe)))
        .collect();
    if probes.is_empty() {
        let what = match settings.policy.target {
            TargetKind::Process => "no probe: only that the process runs is checked",
            TargetKind::Script => "no probe: only the script's `status` is checked",
            TargetKind::Git => "no probe: only the commit that is checked out is looked at",
            TargetKind::Systemd => "no probe: only what systemd knows of the unit is looked at",
            TargetKind::Compose => {
                "no probe: only containers and their own health checks are looked at"
            }
        };
        return Item::warning(name, what).fix("add `health: { http: { url: … } }` to backout.yaml");
    }
    let blind = probes.iter().find(|(service, probe)| service.traffic && !probe.names_a_side());
    match blind {
        Some((service, probe)) if side_by_side => Item::warning(
            name,
            format!(
                "the {} check of {} can't tell the new side from the old one, so it never promotes a stage by itself",
                probe.name(),
                service.name
            ),
        )
        .fix("write `{port}` or `{slot}` into it"),
        _ => Item::pass(name, match probes.len() {
            1 => "1 check".to_owned(),
            count => format!("{count} checks"),
        }),
    }
}

/// Whether users can be served where the built-in router listens. `ours`: our proxy listens there already.
pub fn listen(settings: &Settings, ours: bool) -> Option<Item> {
    let name = "listen_port";
    let RouterPolicy::Builtin { listen, .. } = &settings.policy.router else { return None };
    if ours {
        return Some(Item::pass(name, format!("our proxy listens on {listen}")));
    }
    Some(match try_bind(*listen) {
        Ok(()) => Item::pass(name, format!("{listen} is free")),
        Err(Errno::ADDRINUSE) => {
            let who = owner(listen.port());
            Item::error(name, format!("{listen} is taken{who}"))
                .fix("stop what listens there, or change router.builtin.listen")
        }
        Err(Errno::ACCESS) => {
            Item::error(name, format!("port {} is reserved to root", listen.port()))
                .fix(format!("sysctl net.ipv4.ip_unprivileged_port_start={}", listen.port()))
        }
        Err(error) => Item::error(name, format!("failed to use {listen}: {error}"))
            .fix("change router.builtin.listen to an address of this machine"),
    })
}

/// Binds without listening, so that no user is ever accepted here.
fn try_bind(address: SocketAddr) -> Result<(), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)
}

fn owner(port: u16) -> String {
    let owners = crate::registry::listeners(port);
    let names: Vec<String> =
        owners.iter().map(|(pid, name)| format!("process {pid} (`{name}`)")).collect();
    if names.is_empty() { String::new() } else { format!(" by {}", names.join(", ")) }
}
