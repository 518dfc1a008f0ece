//! The one binary: every deployment reversible.

mod cli;
mod config;
mod demo;
mod error;
mod exit_code;
mod registry;
mod state_dir;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use error::CommandError;

fn main() -> ExitCode {
    let cli = match cli::args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
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

/// A command line that can't be used, or help that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() && wants_json(std::env::args_os().skip(1)) {
        cli::report::json::print(&CommandError::of_usage(&error.to_string()).document());
    }
    ExitCode::from(if error.use_stderr() { exit_code::USAGE } else { exit_code::OK })
}

/// Whether a command line that could not be read asks for JSON all the same.
fn wants_json(mut args: impl Iterator<Item = OsString>) -> bool {
    let mut json = false;
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--") => break,
            Some("--format=json") => json = true,
            Some("--format") => json = args.next().is_some_and(|value| value == "json"),
            _ => {}
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_wanted_wherever_the_flag_stands() {
        let wants = |line: &str| wants_json(line.split(' ').map(OsString::from));
        assert!(wants("deploy --format json") && wants("--format=json nope"));
        assert!(!wants("deploy --format") && !wants("deploy --format table"));
        assert!(!wants("deploy -- --format=json") && !wants("deploy json"));
    }
}
