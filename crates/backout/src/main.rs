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
            // Replay has printed lines already, and says in words which line was wrong.
            let replay = |judge: &cli::args::Judge| {
                matches!(judge.command, cli::args::JudgeCommand::Replay(_))
            };
            let lines = matches!(&cli.command, cli::args::Command::Judge(of) if replay(of));
            if cli.global.format == cli::args::Format::Json && !lines {
                cli::report::json::print(&error.document());
            }
            ExitCode::from(error.kind.exit_code())
        }
    }
}
