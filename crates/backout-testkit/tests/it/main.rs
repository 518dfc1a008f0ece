//! The fakes obey the same suites as the real adapters, and are strict.

mod fakes;
mod strictness;
