//! The one binary: every deployment reversible.

mod cli;
mod config;
mod demo;
mod error;
mod exit_code;
mod registry;
mod state_dir;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::args::Cli::parse();
    match cli::run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.print();
            ExitCode::from(error.kind.exit_code())
        }
    }
}
