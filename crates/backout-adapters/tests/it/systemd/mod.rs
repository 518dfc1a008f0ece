//! The systemd target on a real systemd.

mod bench;
mod faults;
mod in_place;
mod relay;
mod remote;
mod slots;
mod suite;
mod turns;
