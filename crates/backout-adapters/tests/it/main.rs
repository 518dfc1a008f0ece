//! The adapters on the real thing: programs, scripts, files and sockets of this machine.

#![allow(clippy::unwrap_used)]

mod artifacts;
mod compose;
mod config_files;
mod conformance;
mod git;
mod host;
mod metrics;
mod probes;
mod process;
mod process_files;
mod process_trouble;
mod prometheus;
mod script;
mod script_router;
mod ssh;
mod systemd;
mod world;
