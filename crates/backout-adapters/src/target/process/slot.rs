//! The folder of one slot of one service.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backout_core::ids::{EnvironmentKey, LedgerId, ServiceName, Unit};
use backout_core::ports::AdapterError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::spec::{FORMAT, SlotSpec, Status, StopOrder};
use crate::host::{
    FileLock, create_private_dirs, last_bytes, read_bounded, remove_file_if_there, write_atomic,
};

const MAX_FILE_BYTES: u64 = 1 << 20;

/// `<state>/slots/<app>/<environment>/<service>/<slot>/`.
#[derive(Debug, Clone)]
pub(crate) struct SlotFolder {
    path: PathBuf,
}

/// Folder of all services of an environment.
pub(crate) fn environment_folder(state_dir: &Path, key: &EnvironmentKey) -> PathBuf {
    state_dir.join("slots").join(key.app.as_str()).join(key.environment.as_str())
}

/// Folder of both slots of a service.
pub(crate) fn service_folder(
    state_dir: &Path,
    key: &EnvironmentKey,
    service: &ServiceName,
) -> PathBuf {
    environment_folder(state_dir, key).join(service.as_str())
}

impl SlotFolder {
    pub(crate) fn of(state_dir: &Path, unit: &Unit) -> Self {
        Self { path: service_folder(state_dir, &unit.key, &unit.service).join(unit.slot.as_str()) }
    }

    /// The folder that holds a `spec.json`.
    pub(crate) fn holding(spec: &Path) -> Option<Self> {
        spec.parent().map(|path| Self { path: path.to_owned() })
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn create(&self) -> io::Result<()> {
        create_private_dirs(&self.path.join("log"))
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    pub(crate) fn spec_path(&self) -> PathBuf {
        self.path.join("spec.json")
    }

    pub(crate) fn supervisor_lock(&self) -> PathBuf {
        self.path.join("supervisor.lock")
    }

    pub(crate) fn supervisor_log(&self) -> PathBuf {
        self.path.join("supervisor.log")
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.path.join("artifact")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config")
    }

    pub(crate) fn log(&self, deployment: u64) -> PathBuf {
        self.path.join("log").join(format!("{deployment}.log"))
    }

    /// The part of a deployment's log before the last rotation.
    pub(crate) fn older_log(&self, deployment: u64) -> PathBuf {
        self.path.join("log").join(format!("{deployment}.log.1"))
    }

    /// Excludes other starts and stops of this slot, of this process and of others.
    pub(crate) async fn lock(&self, patience: Duration) -> Result<FileLock, AdapterError> {
        let path = self.path.join("control.lock");
        match FileLock::take(&path, patience).await {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(AdapterError::transient(format!(
                "failed to get hold of `{}`: another start or stop is at work there",
                self.path.display()
            ))),
            Err(e) => Err(AdapterError::transient(e.to_string())),
        }
    }

    /// Whether a supervisor is alive.
    pub(crate) fn is_supervised(&self) -> io::Result<bool> {
        FileLock::is_held(&self.supervisor_lock())
    }

    pub(crate) fn read_spec(&self) -> Result<Option<SlotSpec>, AdapterError> {
        let spec: Option<SlotSpec> = read_json(&self.spec_path())?;
        refuse_newer(&self.spec_path(), spec.as_ref().map(|s| s.format))?;
        Ok(spec)
    }

    pub(crate) fn read_status(&self) -> Result<Option<Status>, AdapterError> {
        let path = self.path.join("status.json");
        let status: Option<Status> = read_json(&path)?;
        refuse_newer(&path, status.as_ref().map(|s| s.format))?;
        Ok(status)
    }

    pub(crate) fn read_stop_order(&self) -> Option<StopOrder> {
        read_json(&self.path.join("stop.json")).ok().flatten()
    }

    pub(crate) fn write_spec(&self, spec: &SlotSpec) -> io::Result<()> {
        write_json(&self.spec_path(), spec)
    }

    pub(crate) fn write_status(&self, status: &Status) -> io::Result<()> {
        write_json(&self.path.join("status.json"), status)
    }

    pub(crate) fn write_stop_order(&self, order: &StopOrder) -> io::Result<()> {
        write_json(&self.path.join("stop.json"), order)
    }

    pub(crate) fn forget_stop_order(&self) -> io::Result<()> {
        remove_file_if_there(&self.path.join("stop.json"))
    }

    /// After a stop: nothing is meant to run here, and no ledger holds the slot. Logs and last status stay.
    pub(crate) fn forget_spec(&self) -> io::Result<()> {
        remove_file_if_there(&self.spec_path())
    }

    /// Last bytes that a deployment's program wrote.
    pub(crate) fn tail(&self, deployment: u64, max: usize) -> Option<String> {
        let mut bytes = last_bytes(&self.log(deployment), max)?;
        if bytes.len() < max
            && let Some(mut older) = last_bytes(&self.older_log(deployment), max - bytes.len())
        {
            older.append(&mut bytes);
            bytes = older;
        }
        let text = crate::host::printable(&bytes);
        // Control characters are gone and broken characters have grown: cut again, at a character.
        let cut =
            (text.len().saturating_sub(max)..=text.len()).find(|at| text.is_char_boundary(*at))?;
        Some(text[cut..].to_owned()).filter(|t| !t.is_empty())
    }

    /// Removes logs of all deployments but this one and the newest before it.
    pub(crate) fn prune_logs(&self, deployment: u64) {
        let number = |name: &str| name.split('.').next().and_then(|n| n.parse::<u64>().ok());
        let Ok(entries) = std::fs::read_dir(self.path.join("log")) else { return };
        let logs: Vec<(u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path())))
            .collect();
        let before = logs.iter().map(|(n, _)| *n).filter(|n| *n != deployment).max();
        for (of, path) in logs {
            if of != deployment && Some(of) != before {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn refuse_newer(path: &Path, format: Option<u32>) -> Result<(), AdapterError> {
    match format {
        Some(found) if found > FORMAT => Err(AdapterError::permanent(format!(
            "failed to read `{}`: it has format {found}, this version knows up to {FORMAT}",
            path.display()
        ))
        .with_hint("use the newer version of backout that wrote it")),
        _ => Ok(()),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AdapterError> {
    let failed = |e: &dyn std::fmt::Display| {
        AdapterError::permanent(format!("failed to read `{}`: {e}", path.display()))
    };
    match read_bounded(path, MAX_FILE_BYTES) {
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).map(Some).map_err(|e| failed(&e)),
        Ok(None) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => Ok(None),
        Err(e) => Err(failed(&e)),
    }
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_atomic(path, &serde_json::to_vec_pretty(value)?, 0o600)
}

/// Refuses a slot that another ledger manages.
pub(crate) fn refuse_foreign(spec: &SlotSpec, ledger: &LedgerId) -> Result<(), AdapterError> {
    if spec.ledger == *ledger {
        return Ok(());
    }
    Err(AdapterError::permanent(format!(
        "failed to use {} of {}: ledger {} manages it, not {ledger}",
        spec.unit, spec.unit.key, spec.ledger
    ))
    .with_hint("use the state folder of that ledger, or run `backout down` there first"))
}
