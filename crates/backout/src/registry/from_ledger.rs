//! What targets ask the ledger for.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use backout_adapters::target::ScriptHistory;
use backout_adapters::target::process::ConfigBlobs;
use backout_core::ids::Unit;
use backout_core::model::{ConfigFile, FileKind, secret_values, unmask_secrets};
use backout_core::ports::{AdapterError, ConfigFiles, Ledger, Secrets};

/// What is known of a script that was adopted.
pub(super) struct LedgerHistory(pub(super) Arc<dyn Ledger>);

#[async_trait]
impl ScriptHistory for LedgerHistory {
    async fn has_reported(&self, unit: &Unit) -> Result<bool, AdapterError> {
        let row = self.0.environment(&unit.key).await;
        let row = row.map_err(|error| AdapterError::transient(error.to_string()))?;
        let hosts = row.as_ref().and_then(|row| row.scripts_spoken.get(&unit.service));
        Ok(hosts.is_some_and(|hosts| hosts.contains(&unit.host)))
    }
}

/// Config files of a release for `{config}`, with today's secret values.
pub(super) struct LedgerBlobs {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) files: Arc<dyn ConfigFiles>,
    pub(super) keys: Vec<String>,
}

#[async_trait]
impl ConfigBlobs for LedgerBlobs {
    async fn unmasked(
        &self,
        file: &ConfigFile,
        secrets: &Secrets,
    ) -> Result<Vec<u8>, AdapterError> {
        let FileKind::File { blob, .. } = &file.kind else { return Ok(Vec::new()) };
        let bytes = self
            .ledger
            .blob(blob)
            .await
            .map_err(|error| AdapterError::transient(error.to_string()))?;
        let bytes = bytes.ok_or_else(|| {
            AdapterError::permanent(format!(
                "failed to copy {}: its content is not in the ledger",
                file.path
            ))
        })?;
        let mut today: BTreeMap<String, String> =
            secrets.iter().map(|(key, value)| (key.clone(), value.expose().to_owned())).collect();
        if let Some(disk) = self.files.read_one(&file.path).await? {
            today.extend(secret_values(&disk.bytes, &self.keys));
        }
        unmask_secrets(&bytes, &today).map_err(|key| {
            AdapterError::permanent(format!(
                "failed to copy {}: the secret {key} has no value today",
                file.path
            ))
            .with_hint(format!("set {key} in the environment"))
        })
    }
}
