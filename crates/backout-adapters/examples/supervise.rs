//! The supervisor as a program of its own: `supervise SPEC`. The `backout` binary has it as a hidden subcommand.

use std::path::PathBuf;

fn main() {
    let Some(spec) = std::env::args_os().nth(1) else {
        eprintln!("usage: supervise SPEC");
        std::process::exit(2);
    };
    std::process::exit(backout_adapters::target::process::supervise::run(&PathBuf::from(spec)));
}
