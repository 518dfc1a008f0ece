//! Data that is versioned with releases: config files.

mod files;
mod label;
mod put;

pub use files::LocalConfigFiles;
