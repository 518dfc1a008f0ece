//! Data that is versioned with releases: config files.

mod files;
mod label;

pub use files::LocalConfigFiles;
