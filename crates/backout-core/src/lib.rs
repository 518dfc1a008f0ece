//! The pure heart of Backout: model, planner, saga and the ports that adapters implement.
//!
//! Nothing here touches a clock, a file, the network or the environment: functions take `now` and
//! what was observed as values, so that every decision can be replayed and enumerated in tests.

pub mod ids;
pub mod model;
pub mod plan;
pub mod ports;
pub mod saga;
