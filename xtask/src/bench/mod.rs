//! Measurements against the tools people use today: `cargo xtask bench`.
use crate::Outcome;
pub struct Options;
impl Options {
    pub fn parse(_words: &[&str]) -> Result<Self, String> {
        Ok(Self)
    }
}
pub fn run(_options: &Options) -> Outcome<()> {
    Err("no bench".into())
}
