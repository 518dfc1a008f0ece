//! A world of its own for each test: a folder, a state folder, a port, a service that behaves as the test wants, and
//! the real binary.

// Each module of this test binary uses some of it.
#![allow(dead_code)]

mod background;
mod controllers;
mod fleet;
mod http;
pub mod ledger_file;
mod processes;
mod pty;
mod service;
mod services;
mod world;
mod yaml;

pub use background::{Background, Ran};
pub use fleet::Fleet;
pub use http::{Visitor, get as http_get};
pub use processes::Process;
pub use pty::Terminal;
pub use service::{Service, write_program};
pub use services::Services;
pub use world::{World, free_port};
pub use yaml::Yaml;

use std::time::{Duration, Instant};

/// Longest wait for anything; a machine under load is slow, and a test that fails should say so at last.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `seen` gives something.
///
/// # Panics
/// After [`PATIENCE`], naming what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = seen() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `holds`.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}
