//! The git target on real repositories.

mod faults;
mod hostile;
mod moves;
mod world;
