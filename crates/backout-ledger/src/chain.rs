//! The hash that chained each journal entry to the one before it in format 1. Still here to check what is moved
//! from there.

use sha2::{Digest, Sha256};

/// Hash before the first entry.
pub(crate) const GENESIS: [u8; 32] = [0; 32];

/// What of an entry is hashed.
pub(crate) struct Link<'a> {
    pub operation: &'a str,
    pub sequence: u64,
    pub epoch: u64,
    pub json: &'a str,
}

/// Hash of an entry over its content and the hash before it. Lengths go in, so that no two entries read alike.
pub(crate) fn next(previous: &[u8], link: &Link<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    for text in [link.operation, link.json] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.update(link.sequence.to_be_bytes());
    hash.update(link.epoch.to_be_bytes());
    hash.finalize().into()
}
