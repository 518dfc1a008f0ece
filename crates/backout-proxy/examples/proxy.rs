//! Runs the proxy in the folder given as the first argument: `proxy DIR [--exit-when-idle]`.

use std::{env, error::Error, process::ExitCode};

use backout_proxy::server::{Options, run};

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let Some(dir) = arguments.next() else {
        eprintln!("usage: proxy DIR [--exit-when-idle]");
        return ExitCode::from(2);
    };
    let exit_when_idle = arguments.next().is_some_and(|flag| flag == "--exit-when-idle");
    match run(Options { dir: dir.into(), exit_when_idle }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut cause: Option<&dyn Error> = Some(&error);
            while let Some(shown) = cause {
                eprintln!("{shown}");
                cause = shown.source();
            }
            ExitCode::FAILURE
        }
    }
}
