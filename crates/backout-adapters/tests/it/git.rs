//! The git target on real repositories.

mod faults;
mod gentle;
mod hostile;
mod linked;
mod linked_faults;
mod moves;
pub mod world;
