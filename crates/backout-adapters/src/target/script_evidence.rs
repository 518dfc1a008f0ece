//! What a script's changing calls have printed, for an incident bundle; and what of it can be rehearsed.

use std::os::unix::fs::PermissionsExt as _;

use backout_core::ids::Unit;
use backout_core::model::ScriptSpec;
use backout_core::ports::{AdapterError, Farewell, NamedText, Rehearsal};

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

    /// The script itself, which is not called.
    pub(super) fn look_at(&self, spec: &ScriptSpec) -> Result<Rehearsal, AdapterError> {
        let path = self.program(spec);
        let runnable = std::fs::metadata(&path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
        if !runnable {
            return Err(AdapterError::permanent(format!(
                "failed to find the script `{}`, or it is not executable",
                path.display()
            )));
        }
        Ok(Rehearsal {
            rehearsed: vec![format!("`{}` is there and executable", spec.program)],
            left_out: vec![format!("`{} rollback` was not called", spec.program)],
        })
    }

    /// What is remembered of the script is removed; what it started goes on.
    pub(super) fn farewell(&self, unit: &Unit, act: bool) -> Result<Farewell, AdapterError> {
        let folder = self.folder_of(&unit.key);
        if act {
            crate::artifact::remove_tree(&folder)
                .map_err(|e| AdapterError::transient(format!("failed to remove a folder: {e}")))?;
        }
        let stays = vec![format!("what the script of {} has started goes on", unit.service)];
        let removed = vec![format!("what was remembered of the script, in {}", folder.display())];
        Ok(Farewell { removed, stays, keeps_copies: false })
    }
}
