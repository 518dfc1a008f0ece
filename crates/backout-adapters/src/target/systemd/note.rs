//! What is noted beside a link: the marker of whose it is.

use std::path::PathBuf;

use backout_core::ids::{LedgerId, ReleaseId, Unit, Version};
use backout_core::ports::{AdapterError, Marker};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Side;
use super::place::writing;
use crate::host::{read_bounded, remove_file_if_there, write_atomic};

const FORMAT: u32 = 1;
const MAX_BYTES: u64 = 64 << 10;

/// The release behind a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Version of this format.
    pub format: u32,
    /// Whose it is.
    pub of: Unit,
    /// The ledger that manages it.
    pub ledger: LedgerId,
    /// The unit of systemd.
    pub unit: String,
    /// The release.
    pub release: ReleaseId,
    /// Its label.
    pub version: Version,
    /// The deployment it runs for.
    pub deployment: u64,
    /// The folder of the release.
    pub folder: PathBuf,
    /// The port it was given.
    pub port: Option<u16>,
    /// When its start began.
    pub since: Timestamp,
    /// The unit was started, well or not.
    pub finished: bool,
    /// Before the first deployment: what the link led to.
    pub before: Option<PathBuf>,
}

impl Note {
    pub(super) const FORMAT: u32 = FORMAT;

    pub(super) fn marker(&self) -> Option<Marker> {
        Some(Marker { ledger: self.ledger.clone() })
    }
}

impl Side {
    pub(super) fn note(&self) -> Result<Option<Note>, AdapterError> {
        let path = &self.place.note;
        let failed = |why: &dyn std::fmt::Display| {
            AdapterError::permanent(format!("failed to read `{}`: {why}", path.display()))
        };
        let Some(bytes) = read_bounded(path, MAX_BYTES).map_err(|e| failed(&e))? else {
            return Ok(None);
        };
        let note: Note = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
        if note.format > FORMAT {
            let words = format!("it has format {}, this version knows up to {FORMAT}", note.format);
            return Err(failed(&words));
        }
        Ok(Some(note))
    }

    pub(super) fn write_note(&self, note: &Note) -> Result<(), AdapterError> {
        let bytes = serde_json::to_vec_pretty(note).map_err(std::io::Error::from);
        // Not secret, and of use to whoever looks at the folder.
        bytes
            .and_then(|bytes| write_atomic(&self.place.note, &bytes, 0o644))
            .map_err(|e| writing(&e))
    }

    pub(super) fn remove_note(&self) -> Result<(), AdapterError> {
        remove_file_if_there(&self.place.note).map_err(|e| writing(&e))
    }

    /// Says so if another environment, service or ledger manages what is behind the link.
    pub(super) fn other_owner(&self, note: &Note) -> Option<String> {
        let link = self.place.link.display();
        let (theirs, ours) = (&note.of, &self.unit);
        if theirs.key != ours.key {
            return Some(format!(
                "`{link}` belongs to {}: give each environment a unit and a `current` of its own",
                theirs.key
            ));
        }
        if theirs.service != ours.service || theirs.slot != ours.slot {
            return Some(format!(
                "`{link}` belongs to {theirs}: give each service a unit and a `current` of its own"
            ));
        }
        (note.ledger != self.options.ledger).then(|| {
            format!("ledger {} manages `{link}`, not {}", note.ledger, self.options.ledger)
        })
    }
}
