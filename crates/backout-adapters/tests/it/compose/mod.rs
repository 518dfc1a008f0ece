//! The compose target and the image store on a real Docker Engine.

mod bench;
mod faults;
mod images;
mod in_place;
mod slots;
mod suite;
