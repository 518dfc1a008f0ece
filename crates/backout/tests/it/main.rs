//! The binary as people use it.

mod demo;
mod cases;
mod guide;
mod support;
