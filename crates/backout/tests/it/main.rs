//! The binary as people use it.

mod guide;
