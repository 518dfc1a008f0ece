//! Checkpoints: how far a log had come, as the text of a signed note (C2SP `tlog-checkpoint`).

use backout_core::ids::LedgerId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::tree::{Hash, empty_root};

/// How far a log had come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many leaves it had.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

/// A text that is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no checkpoint: {0}")]
pub struct CheckpointError(&'static str);

/// The log of a ledger, as checkpoints and keys name it.
#[must_use]
pub fn origin_of(ledger: &LedgerId) -> String {
    format!("backout/{ledger}")
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// From the text of a note. Lines that others may add behind these three say nothing here.
    ///
    /// # Errors
    /// When it is not written so.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let body = text.strip_suffix('\n').ok_or(CheckpointError("its last line is not whole"))?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError("it has fewer than three lines"));
        };
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(CheckpointError("one of its lines is empty"));
        }
        let number: u64 = size.parse().map_err(|_| CheckpointError("its size is no number"))?;
        if number.to_string() != size {
            return Err(CheckpointError("its size is not written plainly"));
        }
        let root = STANDARD.decode(root).ok().and_then(|root| Hash::try_from(root).ok());
        let root = root.ok_or(CheckpointError("its root is no hash"))?;
        if number == 0 && root != empty_root() {
            return Err(CheckpointError("it is over no leaf, and has a root"));
        }
        Ok(Self { origin: origin.to_owned(), size: number, root })
    }
}
