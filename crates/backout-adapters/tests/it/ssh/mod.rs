//! Other hosts, on real sshd.

mod git;
mod guard;
mod inputs;
mod keys;
mod links;
mod script;
mod sockets;
mod suite;
mod tidy;
mod world;
