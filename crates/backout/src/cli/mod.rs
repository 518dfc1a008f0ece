//! One module per verb, and the dispatch.

pub mod args;
mod completions;
mod init;
mod schema;
mod values;

use args::{Cli, Command};

use crate::error::CommandError;

pub use values::{DeploymentName, RollbackPoint};

/// Runs the verb and returns its exit code.
///
/// # Errors
/// What went wrong, with the exit code of its kind.
pub fn run(cli: &Cli) -> Result<u8, CommandError> {
    match &cli.command {
        Command::Init => init::run(&cli.global).map(|()| crate::exit_code::OK),
        Command::Schema => schema::run().map(|()| crate::exit_code::OK),
        Command::Completions(completions) => {
            completions::run(completions.shell).map(|()| crate::exit_code::OK)
        }
        other => Err(CommandError::failed(format!("`{other:?}` is not built into this program"))),
    }
}
