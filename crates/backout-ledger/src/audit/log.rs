//! Appending: leaves wait until the transaction that they belong to ends, and go in together.

use backout_core::ports::audit::{AuditHead, AuditKind, AuditLeaf};
use jiff::Timestamp;

use super::tree::{Frontier, hash_leaf};

/// Leaves of one transaction, in order.
#[derive(Debug, Default)]
pub(crate) struct Pending(Vec<AuditLeaf>);

impl Pending {
    /// Remembers that a record was written. `json` is the text exactly as it is stored.
    pub(crate) fn push(
        &mut self,
        kind: AuditKind,
        subject: impl Into<String>,
        format: u32,
        json: &str,
    ) {
        self.0.push(AuditLeaf::new(kind, subject, format, json, Timestamp::now()));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The leaves with their places behind `head`, and the head that they lead to; none if `head` is damaged.
    pub(crate) fn seal(self, head: &AuditHead) -> Option<(Vec<AuditLeaf>, AuditHead)> {
        let mut frontier = Frontier::restore(head)?;
        let mut leaves = self.0;
        for leaf in &mut leaves {
            leaf.index = frontier.size();
            frontier.push(hash_leaf(&leaf.bytes()));
        }
        Some((leaves, frontier.head()))
    }
}

/// The peaks one after the other, as stores keep them.
pub(crate) fn pack(head: &AuditHead) -> Vec<u8> {
    head.peaks.concat()
}

/// The head of a stored size and stored peaks; peaks that were cut are left out, and do not fit the size then.
pub(crate) fn unpack(size: u64, peaks: &[u8]) -> AuditHead {
    let (whole, _) = peaks.as_chunks::<32>();
    AuditHead { size, peaks: whole.to_vec() }
}

/// Missing leaves that are bridged. What lies farther away does not belong to the log.
pub(super) const MAX_GAP: u64 = 1 << 16;

/// The head over leaves as they lie, for a log whose head was damaged. A missing leaf counts as an empty one.
pub(crate) fn rebuild(leaves: &[AuditLeaf]) -> AuditHead {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        if leaf.index - frontier.size() > MAX_GAP {
            break;
        }
        while frontier.size() < leaf.index {
            frontier.push(hash_leaf(&[]));
        }
        frontier.push(hash_leaf(&leaf.bytes()));
    }
    frontier.head()
}
