//! Copies of what a release starts.

mod file;
mod tree;

pub use file::FileArtifacts;
pub(crate) use tree::remove as remove_tree;
