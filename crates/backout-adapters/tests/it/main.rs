//! The adapters on the real thing: programs, scripts, files and sockets of this machine.

#![allow(clippy::unwrap_used)]

mod artifacts;
mod config_files;
mod conformance;
mod host;
mod probes;
mod process;
mod process_files;
mod process_trouble;
mod script;
mod script_router;
mod world;
