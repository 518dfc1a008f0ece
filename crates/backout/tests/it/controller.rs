//! The standing controller: what it takes up, what is ordered of it, how it leaves, and several at once.

mod configuration;
mod leaves;
mod orders;
mod takes_over;
pub mod together;
mod unit;
