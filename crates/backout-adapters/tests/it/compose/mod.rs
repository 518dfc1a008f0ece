//! The compose target and the image store on a real Docker Engine.

mod bench;
mod elsewhere;
mod faults;
mod images;
mod in_place;
mod rolling;
mod slots;
mod suite;
