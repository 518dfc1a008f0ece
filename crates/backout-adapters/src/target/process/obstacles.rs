//! What stands in the way of a start that Backout did not put there.

use std::collections::BTreeSet;

use backout_core::ids::Unit;
use backout_core::model::{PortSpec, ProcessSpec};
use backout_core::ports::AdapterError;

use super::ProcessTargetOptions;
use super::orphans;
use super::port::slots_below;
use super::slot::{SlotFolder, environment_folder};
use crate::host::procfs::{self, ProcessId, Stat};

pub(crate) fn obstacles(
    options: &ProcessTargetOptions,
    unit: &Unit,
    spec: &ProcessSpec,
) -> Result<Vec<String>, AdapterError> {
    let mut found = Vec::new();
    if let Some(other) =
        SlotFolder::of(&options.state_dir, unit).read_spec()?.filter(|s| s.ledger != options.ledger)
    {
        found.push(format!(
            "{unit} of {} is managed by ledger {}, not {}",
            unit.key, other.ledger, options.ledger
        ));
    }
    let Some(PortSpec::Fixed(port)) = spec.port else { return Ok(found) };
    let (owners, unseen) = procfs::listeners(port);
    if owners.is_empty() && !unseen {
        return Ok(found);
    }
    let ours = ours(options, unit);
    // A server's forked workers hold the same socket: the one to end is their parent.
    let is_worker = |worker: &Stat| owners.iter().any(|owner| owner.pid == worker.parent);
    for owner in owners.iter().filter(|owner| !is_worker(owner) && !ours.contains(&owner.id())) {
        found.push(format!(
            "port {port} is taken by process {} (`{}`); end it, or give another port:",
            owner.pid, owner.name
        ));
    }
    if unseen {
        found.push(format!(
            "port {port} is taken by a process of another user; end it, or give another port:"
        ));
    }
    Ok(found)
}

/// Everything that runs in the slots of this environment.
fn ours(options: &ProcessTargetOptions, unit: &Unit) -> BTreeSet<ProcessId> {
    slots_below(&environment_folder(&options.state_dir, &unit.key))
        .iter()
        .flat_map(|slot| {
            let (instances, child) = orphans::known(slot);
            orphans::find(&instances, child.as_ref())
        })
        .collect()
}
