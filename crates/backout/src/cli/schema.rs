//! `backout schema`.

use std::io::Write as _;

use crate::config;
use crate::error::CommandError;

/// The schema as it is printed and as it lies in `docs/`.
#[must_use]
pub fn text() -> String {
    format!("{:#}\n", config::schema())
}

/// Prints the JSON Schema of `backout.yaml`.
///
/// # Errors
/// When standard output is closed.
pub fn run() -> Result<(), CommandError> {
    std::io::stdout()
        .lock()
        .write_all(text().as_bytes())
        .map_err(|error| CommandError::failed(format!("failed to print the schema: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_is_the_printed_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/backout.schema.json");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == text(),
            "docs/backout.schema.json is stale: backout schema > docs/backout.schema.json"
        );
    }
}
