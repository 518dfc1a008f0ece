//! The machines of one environment, by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use backout_core::ids::{HostName, Unit};
use backout_core::ports::{AdapterError, Host};

/// The machines other than this one.
#[derive(Clone, Default)]
pub struct Hosts {
    others: Arc<BTreeMap<HostName, Arc<dyn Host>>>,
}

impl Hosts {
    /// These machines, by their names.
    #[must_use]
    pub fn new(others: impl IntoIterator<Item = Arc<dyn Host>>) -> Self {
        let others = others.into_iter().map(|host| (host.name().clone(), host));
        Self { others: Arc::new(others.collect()) }
    }

    /// The machine of a unit; `None`: this one.
    ///
    /// # Errors
    /// Permanent when it is none of these.
    pub fn of(&self, unit: &Unit) -> Result<Option<Arc<dyn Host>>, AdapterError> {
        if unit.host.is_local() {
            return Ok(None);
        }
        self.others.get(&unit.host).cloned().map(Some).ok_or_else(|| not_a_host(unit))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Host>> {
        self.others.values()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.others.is_empty()
    }

    /// Ends the connections to all of them, side by side: one that hangs keeps no other waiting.
    pub async fn close(&self) {
        futures_util::future::join_all(self.all().map(|host| host.close())).await;
    }
}

/// A host that was taken out of the file.
pub(crate) fn not_a_host(unit: &Unit) -> AdapterError {
    AdapterError::permanent(format!(
        "failed to use {unit}: `{}` does not stand under `hosts` any more",
        unit.host
    ))
    .with_hint("put it back under `hosts` in backout.yaml until nothing of the app is left there")
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.others.keys()).finish()
    }
}
