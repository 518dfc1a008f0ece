//! The standing controller: the engine's loop as a long-lived process.
//!
//! It takes no input but rows of the ledger, and it does nothing that a command could not do as well: what was
//! interrupted goes on by the rules of `recover`, what was ordered is deployed as `deploy` does. It wakes by period
//! and by signal. Several at once are safe: leases decide who works, and the one that has run longest does what
//! needs no lease.

mod beat;
mod guard;
mod log;
mod order;
mod orders;
mod refresh;
mod run;
mod tender;

pub use beat::{controller_of, policy_digest};
pub use order::{Ordered, order_deploy, require_controller};
pub use run::{Fleet, Leave, run_controller};
