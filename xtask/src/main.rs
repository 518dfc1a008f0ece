//! Development tasks: `cargo xtask <task>`.

mod advisories;
mod bench;
mod docs;
mod eval;
mod gate;
mod needs;
mod paths;
mod run;
mod suites;
mod sweep;
mod tidy;

use std::process::ExitCode;

/// What a task returns; the error is a fragment for people that says what to do next.
pub type Outcome<T> = Result<T, String>;

const USAGE: &str = "\
Development tasks of Backout.

Usage: cargo xtask <task> [options]

Tasks
  test [--no-install] [--only AREA]   install or find what is needed, then run every check in this
                                      order: fmt, tidy, clippy, deny, test, docs; stop at the first
                                      that fails. --no-install only finds; --only runs one area
  tidy                                the rules of the house that clippy does not know
  docs [--check]                      write the generated files; --check only compares
  bench [[--only] NAME] [--no-install]
                                      measure against the tools people use today and update
                                      docs/benchmarks.md
  sweep [PART] [--seed N] [--depth 1|2|3] [--kind NAME] [--limit-s N] [--at-once N] [--no-install]
                                      the fault proofs at full size (docs/proofs.md); a part of them
                                      is a sample of `test`
  eval [--only NAME] [--runs N] [--seed N] [--quick]
                                      measure the judge on made-up traffic and update docs/judge.md;
                                      NAME is a figure (B1 …) or a family; fewer runs only print

Variables
  CARGO_TARGET_DIR       build folder (default: ${XDG_CACHE_HOME:-~/.cache}/backout/target)
  BACKOUT_UNDER_TEST     the binary that `bench NAME` measures, instead of one built now
  BACKOUT_ADVISORY_DB    a tar.gz of the RustSec database to judge against, instead of fetching it
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Usage(message)) => {
            eprintln!("xtask: {message}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Stop::Failed(message)) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

enum Stop {
    Usage(String),
    Failed(String),
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

fn dispatch(words: &[&str]) -> Result<(), Stop> {
    let Some((task, rest)) = words.split_first() else {
        return Err(Stop::Usage("name a task".to_owned()));
    };
    if words.iter().any(|word| matches!(*word, "--help" | "-h" | "help")) {
        print!("{USAGE}");
        return Ok(());
    }
    match *task {
        "test" => Ok(gate::run(&gate::Options::parse(rest).map_err(Stop::Usage)?)?),
        "tidy" => {
            no_options(rest)?;
            Ok(tidy::run()?)
        }
        "docs" => match rest {
            [] => Ok(docs::write()?),
            ["--check"] => Ok(docs::check()?),
            _ => Err(Stop::Usage(format!("docs knows --check, not `{}`", rest.join(" ")))),
        },
        // What `bench trip` deploys.
        "bench-release" => Ok(bench::run_release(rest)?),
        "eval" => Ok(eval::run(&eval::Options::parse(rest).map_err(Stop::Usage)?)?),
        "bench" => Ok(bench::run(&bench::Options::parse(rest).map_err(Stop::Usage)?)?),
        "sweep" => Ok(sweep::run(&sweep::Options::parse(rest).map_err(Stop::Usage)?)?),
        other => Err(Stop::Usage(format!("there is no task `{other}`"))),
    }
}

fn no_options(rest: &[&str]) -> Result<(), Stop> {
    match rest {
        [] => Ok(()),
        _ => Err(Stop::Usage(format!("`{}` is not an option of this task", rest.join(" ")))),
    }
}
