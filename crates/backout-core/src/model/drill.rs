//! What a drill has shown.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{OperationId, ReleaseId, Version};

/// Newest results that an environment keeps, one a release.
pub const DRILLS_MAX: usize = 10;

/// The last drill of one release in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRecord {
    /// The operation.
    pub operation: OperationId,
    /// The deployment whose release was rehearsed.
    pub deployment: u64,
    /// The release.
    pub release: ReleaseId,
    /// Its label.
    pub version: Version,
    /// When it was over.
    pub at: Timestamp,
    /// Going back there would have worked, as far as it was rehearsed.
    pub passed: bool,
    /// It was started beside what runs; else only what can be looked at without touching that.
    pub beside: bool,
    /// From the start to the last of the wanted passes in a row, milliseconds.
    pub restore_ms: Option<u64>,
    /// What was done.
    pub rehearsed: Vec<String>,
    /// What was not, and why.
    pub left_out: Vec<String>,
    /// Why going back would have failed.
    pub error: Option<String>,
}
