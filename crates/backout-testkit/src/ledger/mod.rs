//! The `Ledger` port: a strict fake in memory, sample records, and the behaviours that every ledger must show.

mod fake;
pub mod samples;
pub mod suite;

pub use fake::audit_head_of;
pub use fake::{Call, CommitFault, FakeLedger, Harm, Stored};

#[cfg(test)]
mod tests;
