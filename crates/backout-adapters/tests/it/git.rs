//! The git target on real repositories.

mod faults;
mod hostile;
mod moves;
pub mod world;
