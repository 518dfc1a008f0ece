//! Other hosts, on real sshd.

mod suite;
mod world;
