//! The systemd target on a real systemd.

mod bench;
mod faults;
mod in_place;
mod relay;
mod slots;
mod suite;
