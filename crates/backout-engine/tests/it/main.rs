//! The engine against strict fakes: every effect fails in every way, and the process is killed around each.

mod commands;
mod sweep;
mod world;
