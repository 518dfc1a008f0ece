//! The ledger on a real PostgreSQL server.

mod harness;

mod conformance {
    backout_testkit::ledger_conformance!(crate::postgres::harness::fresh);
}
