//! What is noted beside a link: the marker of whose it is.

use std::path::PathBuf;

use backout_core::ids::{LedgerId, ReleaseId, Unit, Version};
use backout_core::ports::{AdapterError, Marker};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Side;
use super::files::Seen;

const FORMAT: u32 = 1;

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

    /// As it is written.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, AdapterError> {
        serde_json::to_vec_pretty(self)
            .map_err(|e| AdapterError::permanent(format!("failed to note what runs: {e}")))
    }

    pub(super) fn marker(&self) -> Option<Marker> {
        Some(Marker { ledger: self.ledger.clone() })
    }
}

/// What stands at a side's place, with the note read.
#[derive(Debug)]
pub(super) struct Found {
    pub note: Option<Note>,
    /// Where the link leads to; an error: something else stands there.
    pub link: Result<Option<PathBuf>, AdapterError>,
    /// The program of the process that was asked for.
    pub program: Option<PathBuf>,
}

impl Side {
    /// Looks at the place, and at a process (0: at none).
    pub(super) async fn found(&self, pid: u32) -> Result<Found, AdapterError> {
        let Seen { note, link, program } = self.files.look(&self.place, pid).await?;
        let note = note.map(|bytes| self.read_note(&bytes)).transpose()?;
        Ok(Found { note, link, program })
    }

    /// The note alone.
    pub(super) async fn note(&self) -> Result<Option<Note>, AdapterError> {
        Ok(self.found(0).await?.note)
    }

    fn read_note(&self, bytes: &[u8]) -> Result<Note, AdapterError> {
        let failed = |why: &dyn std::fmt::Display| {
            let path = self.place.note.display();
            AdapterError::permanent(format!("failed to read `{path}`: {why}"))
        };
        let note: Note = serde_json::from_slice(bytes).map_err(|e| failed(&e))?;
        if note.format > FORMAT {
            let words = format!("it has format {}, this version knows up to {FORMAT}", note.format);
            return Err(failed(&words));
        }
        Ok(note)
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
