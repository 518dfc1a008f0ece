//! Copies of what a release starts.

mod file;
mod git;
mod image;
mod image_ahead;
mod image_copy;
mod image_hosts;
mod stores;
mod tree;

pub use file::FileArtifacts;
pub use git::{GIT_SCHEME, GitArtifacts};
pub use image::{IMAGE_SCHEME, ImageArtifacts, Keep, Pull};
pub use image_hosts::HostImages;
pub use stores::AllArtifacts;
pub(crate) use tree::remove as remove_tree;
