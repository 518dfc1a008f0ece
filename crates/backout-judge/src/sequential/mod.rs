//! Comparison of canary and baseline by tests that stay valid however often one looks.

mod combine;
mod comparison;
mod errors;
mod evidence;
mod history;
mod latency;
mod mixture;
mod no_worse;
mod routes;
mod scalar;
mod schedule;
mod sessions;
mod share;
mod sketch;

pub use combine::{Alarm, EValues, Part};
pub use comparison::Comparison;
