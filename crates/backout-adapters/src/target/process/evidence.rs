//! The last words of a slot's program, for an incident bundle.

use backout_core::ids::ReleaseId;
use backout_core::ports::{AdapterError, NamedText};

use super::slot::SlotFolder;
use crate::host::printable;

/// The supervisor's own words are few.
const SUPERVISOR_BYTES: u64 = 64 << 10;

pub(super) fn evidence(
    slot: &SlotFolder,
    release: &ReleaseId,
    limit_bytes: usize,
) -> Result<Vec<NamedText>, AdapterError> {
    let spec = slot.read_spec()?.filter(|spec| spec.release == *release);
    let status = slot.read_status()?.filter(|status| status.release == *release);
    // After a stop only the status still says which deployment ran here.
    let deployment = spec.map(|s| s.deployment).or(status.as_ref().map(|s| s.deployment));
    let mut texts = Vec::new();
    if let Some(deployment) = deployment
        && let Some(text) = slot.tail(deployment, limit_bytes)
    {
        let size = std::fs::metadata(slot.log(deployment)).map_or(0, |meta| meta.len());
        let cut = size > limit_bytes as u64 || slot.older_log(deployment).exists();
        texts.push(NamedText { name: "log".to_owned(), text, cut });
    }
    if let Some(status) = status {
        let text = serde_json::to_string_pretty(&status)
            .map_err(|e| AdapterError::permanent(format!("failed to describe a slot: {e}")))?;
        texts.push(NamedText { name: "supervisor.json".to_owned(), text, cut: false });
    }
    if let Ok(Some(bytes)) = crate::host::read_bounded(&slot.supervisor_log(), SUPERVISOR_BYTES) {
        let text = printable(&bytes);
        if !text.is_empty() {
            texts.push(NamedText { name: "supervisor.log".to_owned(), text, cut: false });
        }
    }
    Ok(texts)
}
