//! `backout completions`.

use std::io::Write as _;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::Cli;
use crate::error::CommandError;

/// Prints completions for a shell.
///
/// # Errors
/// When standard output is closed.
pub fn run(shell: Shell) -> Result<(), CommandError> {
    // The generator panics on a closed output, so it writes to memory first.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "backout", &mut text);
    std::io::stdout()
        .lock()
        .write_all(&text)
        .map_err(|error| CommandError::failed(format!("failed to print completions: {error}")))
}
