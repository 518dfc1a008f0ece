//! The ledger on a real PostgreSQL server.

mod copy;
mod cut;
mod errors;
mod harness;
mod hole;
mod races;
mod restart;
mod tls;

mod conformance {
    backout_testkit::ledger_conformance!(crate::postgres::harness::fresh);
}
