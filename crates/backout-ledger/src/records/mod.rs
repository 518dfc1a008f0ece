//! The ledger port over any [`Store`]: which rows there are and what they say. Written once for all databases.

pub(crate) mod audit;
mod changes;
pub(crate) mod codec;
mod commit;
mod controllers;
mod documents;
pub(crate) mod lease;
mod logged;
mod port;
mod query;
mod rows;
pub(crate) mod store;
mod way_back;

use std::sync::Arc;

use crate::surroundings::Surroundings;
use lease::Terms;
use store::Store;

/// Largest blob.
pub const MAX_BLOB_BYTES: usize = 10 * 1024 * 1024;

/// Tries of a transaction whose connection is cut each time.
const MAX_TRIES: u32 = 5;

/// Term of a lease.
pub const DEFAULT_TERM_MS: u64 = 15_000;

/// The [`Ledger`](backout_core::ports::Ledger) on a database.
pub struct LedgerOn<S> {
    pub(crate) store: S,
    term_ms: u64,
    surroundings: Arc<dyn Surroundings>,
}

impl<S: Store> LedgerOn<S> {
    pub(crate) fn new(store: S, term_ms: u64, surroundings: Arc<dyn Surroundings>) -> Self {
        Self { store, term_ms, surroundings }
    }

    /// Whether a transaction that failed is worth another try.
    fn once_more(&self, tries: &mut u32) -> bool {
        *tries += 1;
        self.store.was_cut() && *tries < MAX_TRIES
    }

    pub(crate) fn terms(&self) -> Terms<'_> {
        Terms { surroundings: self.surroundings.as_ref(), term_ms: self.term_ms }
    }
}
