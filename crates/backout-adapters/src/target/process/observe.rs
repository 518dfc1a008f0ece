//! What really runs in a slot, from its lock, its files and `/proc`.

use std::net::{Ipv4Addr, SocketAddr};

use backout_core::ports::{AdapterError, Marker, Observed, OwnHealth, Running};

use super::orphans;
use super::slot::SlotFolder;
use super::spec::{Phase, SlotSpec, Status};
use crate::host::procfs::ProcessId;

/// Bytes of output in an observation.
const TAIL_BYTES: usize = 2048;

pub(crate) fn observe(slot: &SlotFolder) -> Result<Observed, AdapterError> {
    if !slot.exists() {
        return Ok(Observed::nothing());
    }
    // The lock first: a status that is read later can only be newer.
    let supervised = slot
        .is_supervised()
        .map_err(|e| AdapterError::transient(format!("failed to look at a slot: {e}")))?;
    let spec = slot.read_spec()?;
    let status = slot.read_status()?;
    match (spec, status) {
        (None, None) if supervised => Ok(Observed::unknown()),
        (None, None) => Ok(Observed::nothing()),
        // Stopped, or its specification was just taken away.
        (None, Some(status)) => Ok(without_spec(slot, &status, supervised)),
        (Some(spec), status) => {
            let status = status.filter(|s| s.instance == spec.instance);
            let (running, pid) = running(&spec, status.as_ref(), supervised);
            let orphaned = !supervised && running == Running::Yes;
            Ok(Observed { orphaned, ..describe(slot, &spec, status, running, pid) })
        }
    }
}

fn without_spec(slot: &SlotFolder, status: &Status, supervised: bool) -> Observed {
    // A supervisor that has written its last word holds its lock for a moment more.
    let over = matches!(status.phase, Phase::Stopped | Phase::GaveUp | Phase::Failed);
    let running = if supervised && !over { Running::Unknown } else { Running::No };
    Observed {
        running,
        last_exit: status.last_exit,
        gave_up: status.phase == Phase::GaveUp,
        restarts: status.restarts,
        tail: slot.tail(status.deployment, TAIL_BYTES),
        ..Observed::nothing()
    }
}

/// Whether the program runs, and as which process.
fn running(spec: &SlotSpec, status: Option<&Status>, supervised: bool) -> (Running, Option<u32>) {
    let child = status.and_then(|s| s.child.as_ref()).filter(|c| c.is_alive()).map(|c| c.pid);
    match (supervised, status.map(|s| s.phase)) {
        (true, None | Some(Phase::Starting)) => (Running::Unknown, None),
        (true, Some(_)) => (if child.is_some() { Running::Yes } else { Running::No }, child),
        (false, _) => match child.or_else(|| orphan(spec, status)) {
            Some(pid) => (Running::Yes, Some(pid)),
            None => (Running::No, None),
        },
    }
}

fn orphan(spec: &SlotSpec, status: Option<&Status>) -> Option<u32> {
    // A supervisor that ended by itself has ended everything before.
    if status.is_some_and(|s| matches!(s.phase, Phase::Stopped | Phase::GaveUp | Phase::Failed)) {
        return None;
    }
    let child: Option<&ProcessId> = status.and_then(|s| s.child.as_ref());
    orphans::find(std::slice::from_ref(&spec.instance), child).first().map(|p| p.pid)
}

fn describe(
    slot: &SlotFolder,
    spec: &SlotSpec,
    status: Option<Status>,
    running: Running,
    pid: Option<u32>,
) -> Observed {
    Observed {
        running,
        version: Some(spec.version.clone()),
        release: Some(spec.release.clone()),
        deployment: Some(spec.deployment),
        address: spec.port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        pid,
        restarts: status.as_ref().map_or(0, |s| s.restarts),
        last_exit: status.as_ref().and_then(|s| s.last_exit),
        gave_up: status.as_ref().is_some_and(|s| s.phase == Phase::GaveUp),
        orphaned: false,
        tail: slot.tail(spec.deployment, TAIL_BYTES),
        marker: Some(Marker { ledger: spec.ledger.clone() }),
        guard: None,
        health: OwnHealth::None,
    }
}
