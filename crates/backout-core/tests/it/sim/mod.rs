//! A small pure simulator: a model world in which every action has its effect, a ledger in memory, and a
//! driver that asks `decide` as the engine does.

mod checks;
mod effects;
mod ledger;
mod people;
mod router;
mod run;
mod script;
mod world;

pub use people::After;
pub use run::{End, Halt, Sim};
pub use script::{Fault, Mutant, Script};
