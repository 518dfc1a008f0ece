//! How good the judge is, measured: made-up traffic with a fixed seed, and figures from it.
//!
//! The tests run a small part of it; `cargo xtask eval` all.

pub mod families;
pub mod figures;
pub mod howard_ramdas;
pub mod rng;
pub mod rollout;
pub mod rules;
pub mod stats;
pub mod table;
pub mod workers;
