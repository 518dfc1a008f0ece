//! Targets, routers, probes, artifact copies and config files of this machine.
//!
//! Everything here observes and applies. Nothing plans, nothing undoes, and no adapter names another.
//! Commands are run in one place only, [`host`].

pub mod artifact;
pub mod data;
pub mod docker;
pub mod git;
pub mod host;
pub mod probe;
pub mod router;
mod systemd;
pub mod target;
