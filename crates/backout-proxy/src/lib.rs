//! The built-in data plane: a reverse proxy in its own process, the admin socket that commands it and the
//! typed client that talks to that socket.
//!
//! - [`server`] is the long-lived process: one per state folder, started by `backout proxy`.
//! - [`client`] speaks to it; everything an adapter needs is there.
//! - [`wire`] is what both say to each other, versioned.
//! - [`latency`] fixes the buckets of the histograms in the statistics frames.

pub mod client;
mod folder;
pub mod latency;
pub mod server;
pub mod wire;
