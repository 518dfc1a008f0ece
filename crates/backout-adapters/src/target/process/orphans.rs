//! Programs whose supervisor is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use backout_core::ids::Unit;
use backout_core::ports::AdapterError;

use super::slot::SlotFolder;
use super::spec::INSTANCE_VARIABLE;
use crate::host::end_processes;
use crate::host::procfs::{self, ProcessId};

/// Everything alive that an instance of the slot has started: the program itself, what carries the instance's
/// variable, their process group and their descendants.
pub(crate) fn find(instances: &[String], child: Option<&ProcessId>) -> Vec<ProcessId> {
    let mut roots: BTreeSet<ProcessId> =
        child.filter(|c| c.is_alive()).cloned().into_iter().collect();
    if let Some(child) = roots.first().cloned() {
        // The program leads its group, so the group's number is its own as long as it lives.
        roots.extend(procfs::all().into_iter().filter(|p| p.group == child.pid).map(|p| p.id()));
    }
    for instance in instances {
        roots
            .extend(procfs::with_variable(INSTANCE_VARIABLE, instance).into_iter().map(|p| p.id()));
    }
    let pids: Vec<u32> = roots.iter().map(|p| p.pid).collect();
    roots.extend(procfs::descendants(&pids).into_iter().map(|p| p.id()));
    roots.into_iter().collect()
}

/// Ends what a dead supervisor has left. Returns how many processes there were.
pub(crate) async fn end(
    slot: &SlotFolder,
    unit: &Unit,
    grace: Duration,
) -> Result<usize, AdapterError> {
    let (instances, child) = known(slot);
    if instances.is_empty() {
        return Ok(0);
    }
    let before = find(&instances, child.as_ref()).len();
    if before == 0 {
        return Ok(0);
    }
    let left = end_processes(|| find(&instances, child.as_ref()), grace).await;
    if left.is_empty() {
        return Ok(before);
    }
    let pids: Vec<String> = left.iter().map(|p| p.pid.to_string()).collect();
    Err(AdapterError::transient(format!(
        "failed to end what the supervisor of {unit} has left: processes {} do not die",
        pids.join(", ")
    )))
}

/// Instances that the files of a slot name, and the last known program. Files that can't be read name none.
pub(crate) fn known(slot: &SlotFolder) -> (Vec<String>, Option<ProcessId>) {
    let mut instances = BTreeSet::new();
    if let Ok(Some(spec)) = slot.read_spec() {
        instances.insert(spec.instance);
    }
    let status = slot.read_status().ok().flatten();
    let child = status.as_ref().and_then(|s| s.child.clone());
    instances.extend(status.map(|s| s.instance));
    (instances.into_iter().filter(|i| !i.is_empty()).collect(), child)
}
