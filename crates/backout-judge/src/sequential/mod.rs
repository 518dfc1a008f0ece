//! Comparison of canary and baseline by tests that stay valid however often one looks.

mod combine;
mod comparison;
mod errors;
mod evidence;
mod history;
mod latency;
mod mean;
mod mixture;
mod no_worse;
mod routes;
mod scalar;
mod schedule;
mod sessions;
mod share;
mod sketch;
#[cfg(test)]
mod vectors;

pub use combine::{Alarm, EValues, Part};
pub use comparison::Comparison;
pub(crate) use comparison::SessionKind;

/// Bytes of state of a count metric, of a latency metric and of any other.
pub fn state_bytes() -> [usize; 3] {
    [
        size_of::<errors::ErrorTest>(),
        size_of::<latency::LatencyTest>(),
        size_of::<scalar::ScalarTest>(),
    ]
}
