//! Core from outside: golden plans, properties of the planners, and every journal prefix with every
//! injected fault against a small model of the world.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod enumeration;
mod fixtures;
mod golden;
mod hosts;
mod journal_properties;
mod lint;
mod mutants;
mod partial;
mod plan_properties;
mod records;
mod rehearsals;
mod sim;
mod state_machine;
