//! What every effect is given beside its action.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{OperationId, Version};

/// A value that never shows in logs or records.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value: only where it is handed to the process that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Values of the keys under `secrets:` as the caller has them today.
pub type Secrets = Arc<BTreeMap<String, Secret>>;

/// Context of one attempt of one step. An effect may come again with the same [`StepCx::step_id`].
#[derive(Debug, Clone)]
pub struct StepCx {
    /// The operation.
    pub operation: OperationId,
    /// Idempotency key: operation and step.
    pub step_id: String,
    /// Which try, from 1.
    pub attempt: u32,
    /// Epoch of the lease; an older one than the receiver knows is refused.
    pub epoch: u64,
    /// How long the effect may take.
    pub timeout: Duration,
    /// Number of the deployment that the operation makes.
    pub deployment: u64,
    /// What was live before.
    pub from_version: Option<Version>,
    /// Why.
    pub reason: String,
    /// For starts.
    pub secrets: Secrets,
}
