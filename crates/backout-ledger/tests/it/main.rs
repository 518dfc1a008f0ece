//! The ledger on SQLite: the behaviours of every ledger, and what only files and processes can show.

#![allow(clippy::unwrap_used, reason = "tests shall panic")]

mod audit;
mod cancel;
mod crash;
mod files;
mod harness;
mod history;
mod postgres;
mod processes;
mod space;

mod conformance {
    backout_testkit::ledger_conformance!(crate::harness::fresh);
}
