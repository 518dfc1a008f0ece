//! What people see: progress while it goes on, tables at the end; and JSON for machines.

pub mod commands;
pub mod confirm;
pub mod inspect;
pub mod json;
pub mod judge;
pub mod outcome;
#[cfg(test)]
mod pages;
pub mod progress;
pub mod question;
pub mod status;
pub mod table;
pub mod text;
pub mod words;
