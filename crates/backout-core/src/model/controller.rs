//! What a standing controller says of itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::EnvironmentKey;
use crate::ports::Holder;

/// A sign of life, renewed well within its term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerBeat {
    /// Its process.
    pub holder: Holder,
    /// Version of its program.
    pub program: String,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// What it looks after.
    pub environments: Vec<Tended>,
}

impl ControllerBeat {
    /// What it says of an environment; `None` if it does not look after it.
    #[must_use]
    pub fn tends(&self, key: &EnvironmentKey) -> Option<&Tended> {
        self.environments.iter().find(|tended| tended.key == *key)
    }
}

/// An environment that a controller looks after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tended {
    /// App and environment.
    pub key: EnvironmentKey,
    /// Folder of its `backout.yaml`.
    pub folder: String,
    /// Digest of the rules that it has read there.
    pub policy: String,
    /// Names of the secret keys that it has values of, with keyed hashes of those.
    pub secrets: Vec<(String, String)>,
}
