//! Other hosts, on real sshd.

mod guard;
mod keys;
mod links;
mod script;
mod suite;
mod tidy;
mod world;
