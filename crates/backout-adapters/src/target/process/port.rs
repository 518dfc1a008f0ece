//! Finding a free port for a slot.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use backout_core::ids::Unit;
use backout_core::model::PortSpec;
use backout_core::ports::AdapterError;

use super::slot::{SlotFolder, environment_folder};

/// Below the range from which the kernel takes ports of outgoing connections, so that a program that is
/// restarted finds its port free again.
const RANGE: std::ops::Range<u16> = 20_000..32_768;
const TRIES: u32 = 64;

/// The port of a start: the fixed one, or a free one that no other slot of the environment was given.
pub(crate) fn choose(
    spec: Option<PortSpec>,
    state_dir: &Path,
    unit: &Unit,
) -> Result<Option<u16>, AdapterError> {
    match spec {
        None => Ok(None),
        Some(PortSpec::Fixed(port)) => Ok(Some(port)),
        Some(PortSpec::Auto) => {
            let taken = ports_of_slots(&environment_folder(state_dir, &unit.key));
            let random = (0..TRIES)
                .filter_map(|_| random_port())
                .find(|port| !taken.contains(port) && is_free(*port));
            let port = match random {
                Some(port) => port,
                None => any_free_port(&taken)?,
            };
            Ok(Some(port))
        }
    }
}

fn random_port() -> Option<u16> {
    let mut bytes = [0_u8; 2];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).ok()?;
    Some(RANGE.start + u16::from_le_bytes(bytes) % (RANGE.end - RANGE.start))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn any_free_port(taken: &[u16]) -> Result<u16, AdapterError> {
    for _ in 0..TRIES {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| socket.local_addr())
            .map(|a| a.port());
        match port {
            Ok(port) if !taken.contains(&port) => return Ok(port),
            Ok(_) => {}
            Err(e) => {
                return Err(AdapterError::transient(format!("failed to find a free port: {e}")));
            }
        }
    }
    Err(AdapterError::transient(
        "failed to find a free port: all that were tried belong to other slots",
    ))
}

fn ports_of_slots(environment: &Path) -> Vec<u16> {
    slots_below(environment).iter().filter_map(|slot| slot.read_spec().ok()??.port).collect()
}

/// All slot folders of an environment.
pub(crate) fn slots_below(environment: &Path) -> Vec<SlotFolder> {
    let folders = |path: &Path| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    folders(environment).iter().flat_map(|service| folders(service)).map(SlotFolder::at).collect()
}
