//! The other hosts of an environment, and where things are on them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backout_core::ids::{HostName, Unit};
use backout_core::ports::{AdapterError, Host, HostCommand, HostEnded};

use crate::host::Hosts;

const LOOK: Duration = Duration::from_secs(60);
/// The folder that is ours there, and the login's user.
const WHERE: &str = "pwd && id -u";

/// Another host, as it was found.
#[derive(Clone)]
pub(super) struct There {
    pub host: Arc<dyn Host>,
    /// What paths are relative to.
    pub folder: PathBuf,
    /// The login's user.
    pub user: u32,
}

/// The other hosts; each is asked once.
#[derive(Clone, Default)]
pub(super) struct Others {
    pub hosts: Hosts,
    known: Arc<Mutex<BTreeMap<HostName, There>>>,
}

impl Others {
    pub(super) fn new(hosts: Hosts) -> Self {
        Self { hosts, known: Arc::default() }
    }

    /// The machine of a unit; `None`: this one.
    pub(super) async fn of(&self, unit: &Unit) -> Result<Option<There>, AdapterError> {
        match self.hosts.of(unit)? {
            None => Ok(None),
            Some(host) => self.ask(host).await.map(Some),
        }
    }

    /// Asks a host, once.
    pub(super) async fn ask(&self, host: Arc<dyn Host>) -> Result<There, AdapterError> {
        let name = host.name().clone();
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = known().get(&name).cloned() {
            return Ok(there);
        }
        let said = host.run(&HostCommand::look(["sh", "-c", WHERE], LOOK)).await?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let mut lines = text.lines();
        let found = (lines.next(), lines.next().and_then(|user| user.parse().ok()));
        let (Some(folder), Some(user), HostEnded::Exited(0)) = (found.0, found.1, said.ended)
        else {
            return Err(AdapterError::transient(format!(
                "failed to ask {name} where its folder is: {}",
                crate::host::printable(&said.stderr)
            )));
        };
        let there = There { host, folder: PathBuf::from(folder), user };
        known().insert(name, there.clone());
        Ok(there)
    }
}
