//! Whether a program can be started once more beside the one that runs.

use backout_core::ids::Unit;
use backout_core::model::{PortSpec, ProcessSpec};

/// Why it can't.
pub(super) fn not_beside(unit: &Unit, spec: &ProcessSpec) -> Option<String> {
    match spec.port {
        Some(PortSpec::Auto) => None,
        Some(PortSpec::Fixed(port)) => {
            Some(format!("{} listens on the fixed port {port}, which is in use", unit.service))
        }
        None => Some(format!("{} has no port of its own to be checked at", unit.service)),
    }
}
