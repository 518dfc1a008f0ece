//! Comparison of canary and baseline by tests that stay valid however often one looks.

mod comparison;
mod errors;
mod evidence;
mod latency;
mod mixture;
mod schedule;
mod sessions;
mod share;
mod sketch;

pub use comparison::{Alarm, Comparison, EValues};
