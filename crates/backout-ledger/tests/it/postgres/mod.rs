//! The ledger on a real PostgreSQL server.

mod copy;
mod cut;
mod errors;
pub mod harness;
mod hole;
mod races;
mod restart;
mod tls;

mod conformance {
    backout_testkit::ledger_conformance!(crate::postgres::harness::fresh);
}
