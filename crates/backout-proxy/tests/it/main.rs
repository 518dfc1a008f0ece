//! The proxy as its users see it: a real process, real upstreams, raw clients.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod admin;
mod bodies;
mod dead_man;

mod failures;
mod parsing;

mod restart;
mod routing;
mod sticky;
mod support;
mod trip;
mod tunnels;
