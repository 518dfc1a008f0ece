//! The binary as people use it.

mod cases;
mod demo;
mod guide;
mod interrupt;
mod support;
