//! The ledger port over any [`Store`]: which rows there are and what they say. Written once for all databases.

mod changes;
pub(crate) mod codec;
mod commit;
mod lease;
mod port;
mod query;
mod rows;
pub(crate) mod store;

use std::sync::Arc;

use backout_core::ports::LedgerError;

use crate::chain::{self, Link};
use crate::surroundings::Surroundings;
use lease::Terms;
use store::{Statement, Store};

/// Largest blob.
pub const MAX_BLOB_BYTES: usize = 10 * 1024 * 1024;

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

    /// Follows the chain of hashes over all entries. Returns how many there are.
    ///
    /// # Errors
    /// `CorruptRecord` names the first entry that was changed, or that follows a removed one.
    pub async fn verify_chain(&self) -> Result<u64, LedgerError> {
        const BATCH: u32 = 1000;
        let (mut count, mut last_id, mut hash) = (0, 0_i64, chain::GENESIS.to_vec());
        loop {
            let statement = Statement::new(
                "SELECT id, operation, sequence, epoch, json, hash FROM entries WHERE id > $1 ORDER BY id LIMIT $2",
            )
            .bind(last_id)
            .bind(BATCH);
            let rows = self.store.fetch_all(statement).await?;
            if rows.is_empty() {
                return Ok(count);
            }
            for row in &rows {
                last_id = codec::column("an entry", row, "id")?;
                let operation: String = codec::column("an entry", row, "operation")?;
                let sequence = codec::unsigned("an entry", row, "sequence")?;
                let what = format!("entry {sequence} of {operation}");
                let json: String = codec::column(&what, row, "json")?;
                let epoch = codec::unsigned(&what, row, "epoch")?;
                let link = Link { operation: &operation, sequence, epoch, json: &json };
                hash = chain::next(&hash, &link).to_vec();
                if hash != codec::column::<Vec<u8>>(&what, row, "hash")? {
                    return Err(codec::corrupt(
                        &what,
                        &"its hash does not follow from the entries before it",
                    ));
                }
                count += 1;
            }
        }
    }

    fn terms(&self) -> Terms<'_> {
        Terms { surroundings: self.surroundings.as_ref(), term_ms: self.term_ms }
    }
}
