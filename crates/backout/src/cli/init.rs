//! `backout init`.
use super::args::Global;
use crate::error::CommandError;
pub fn run(_global: &Global) -> Result<(), CommandError> {
    Ok(())
}
