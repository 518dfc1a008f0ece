//! What a script's changing calls have printed, for an incident bundle.

use backout_core::ids::Unit;
use backout_core::ports::NamedText;

use super::script_call::ScriptHome;
use crate::host::{last_bytes, printable};

impl ScriptHome {
    /// The last of what the calls for this slot, and what they left running, have written.
    pub(super) fn last_words(&self, unit: &Unit, limit_bytes: usize) -> Vec<NamedText> {
        let folder = self.folder_of(&unit.key);
        let mut texts = Vec::new();
        for end in ["out", "err"] {
            let path = folder.join(format!("{}-{}.{end}", unit.service, unit.slot));
            let Some(bytes) = last_bytes(&path, limit_bytes) else { continue };
            let (cut, text) = (bytes.len() >= limit_bytes, printable(&bytes));
            if !text.is_empty() {
                texts.push(NamedText { name: format!("script.{end}"), text, cut });
            }
        }
        texts
    }
}
