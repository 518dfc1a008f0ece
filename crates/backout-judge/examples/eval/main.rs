//! The judge's figures. Called by `cargo xtask eval`, which writes them into `docs/judge.md`.
//!
//! Prints each table as Markdown after a line `## NAME`; what is in progress goes to standard error.

#[path = "../../eval/mod.rs"]
mod eval;

use eval::families;
use eval::figures::{ALL, Effort};
use eval::table::Table;
use std::process::ExitCode;
use std::time::Instant;

/// What the command line asked for.
struct Options {
    only: Option<String>,
    effort: Effort,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(options) => run(&options),
        Err(message) => {
            eprintln!("eval: {message}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut effort = Effort { runs: 500, rollback_runs: 10_000, threads: 2, seed: 1 };
    let mut only = None;
    let mut quick = false;
    while let Some(word) = words.next() {
        if word == "--quick" {
            quick = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("`{word}` needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("`{value}` is not a number"));
        match word.as_str() {
            "--only" => only = Some(value),
            "--runs" => {
                effort.runs = number()?.max(1);
                effort.rollback_runs = effort.runs;
            }
            "--seed" => effort.seed = number()?,
            "--threads" => effort.threads = usize::try_from(number()?.clamp(1, 64)).unwrap_or(1),
            _ => return Err(format!("there is no option `{word}`")),
        }
    }
    if quick {
        effort.runs = effort.runs.min(60);
        effort.rollback_runs = effort.rollback_runs.min(300);
    }
    Ok(Options { only, effort })
}

fn run(options: &Options) -> ExitCode {
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    let mut missed = Vec::new();
    let mut any = false;
    for figure in ALL.iter().filter(|figure| wanted(figure.name)) {
        any = true;
        let began = Instant::now();
        eprintln!("{} …", figure.name);
        let tables = (figure.measure)(&options.effort);
        print(&tables, &mut missed, began);
    }
    let all = families::healthy().into_iter().chain(families::regressions());
    for family in all.filter(|family| options.only.as_deref() == Some(family.name)) {
        any = true;
        let began = Instant::now();
        let table = eval::figures::rollbacks::one(&options.effort, &family);
        print(&[table], &mut missed, began);
    }
    if !any {
        let names: Vec<&str> = ALL.iter().map(|figure| figure.name).collect();
        eprintln!("eval: --only takes a family's name or one of {}", names.join(", "));
        return ExitCode::from(2);
    }
    for row in &missed {
        eprintln!("missed: {row}");
    }
    ExitCode::SUCCESS
}

fn print(tables: &[Table], missed: &mut Vec<String>, began: Instant) {
    for table in tables {
        println!("## {}\n\n{}", table.name, table.markdown());
        missed.extend(table.missed());
    }
    eprintln!("  took {:.0} s", began.elapsed().as_secs_f64());
}
