//! The audit log: its tree, its signatures, what it finds, and what it writes.

mod exports;
mod keys;
mod notes;
mod older;
mod tamper;
mod tree;
