//! The engine against strict fakes: every effect fails in every way, and the process is killed around each.

#![allow(clippy::unwrap_used, reason = "a test that can not go on says so by panicking")]

mod commands;
mod controller;
mod hosts;
mod live_at;
mod look;
mod no_data;
mod races;
mod sweep;
mod trip;
mod world;
