//! Finding a free port for a slot.

use std::path::Path;

use backout_core::ids::Unit;
use backout_core::model::PortSpec;
use backout_core::ports::AdapterError;

use super::slot::{SlotFolder, environment_folder};
use crate::host::free_port;

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
            free_port(&taken).map(Some).map_err(AdapterError::transient)
        }
    }
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
