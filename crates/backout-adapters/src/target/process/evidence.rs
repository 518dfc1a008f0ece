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
    let deployment = spec.as_ref().map(|s| s.deployment).or(status.as_ref().map(|s| s.deployment));
    // What the program was really given: the caller may have other values by now.
    let names = spec.as_ref().map(|spec| spec.secret_env.clone()).unwrap_or_default();
    let child = status.as_ref().and_then(|s| s.child.as_ref()).filter(|child| child.is_alive());
    let secrets = child.map(|child| given(child.pid, &names)).unwrap_or_default();
    let mut texts = Vec::new();
    if let Some(deployment) = deployment
        && let Some(text) = slot.tail(deployment, limit_bytes)
    {
        let size = std::fs::metadata(slot.log(deployment)).map_or(0, |meta| meta.len());
        let text = without(text, &secrets);
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

/// Values of these variables of a running program.
fn given(pid: u32, names: &[String]) -> Vec<String> {
    if names.is_empty() {
        return Vec::new();
    }
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let variables = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let value = |variable: std::borrow::Cow<'_, str>| {
        let (name, value) = variable.split_once('=')?;
        // Very short ones are taken out by the caller, as whole words.
        (value.len() >= 4 && names.iter().any(|known| known == name)).then(|| value.to_owned())
    };
    let mut values: Vec<String> = variables.filter_map(value).collect();
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    values
}

fn without(text: String, values: &[String]) -> String {
    values.iter().fold(text, |text, value| text.replace(value.as_str(), "[redacted]"))
}
