//! How good the judge is: `cargo xtask eval`, which writes its tables into `docs/judge.md`.
//!
//! The figures themselves are made by the example `eval` of `backout-judge`, beside the crate's own
//! tests, which share its families.

mod pages;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{Outcome, paths, run};

const PAGE: &str = "docs/judge.md";

/// What the command line asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Handed on as they are; the example knows the names of figures and families.
    words: Vec<String>,
    /// Fewer runs than the page states are for looking, not for writing.
    writes: bool,
}

impl Options {
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Self { words: Vec::new(), writes: true };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            options.words.push((*word).to_owned());
            match *word {
                "--quick" => options.writes = false,
                "--only" | "--runs" | "--seed" => {
                    let value = rest.next().ok_or_else(|| format!("{word} needs a value"))?;
                    let is_number = value.parse::<u64>().is_ok();
                    if *word != "--only" && !is_number {
                        return Err(format!("{word} takes a number, not `{value}`"));
                    }
                    options.words.push((*value).to_owned());
                    options.writes &= *word != "--runs";
                }
                other => {
                    let known = "--only NAME, --runs N, --seed N and --quick";
                    return Err(format!("eval knows {known}, not `{other}`"));
                }
            }
        }
        Ok(options)
    }
}

/// Measures, prints, and puts what was measured in full into the page.
pub fn run(options: &Options) -> Outcome<()> {
    let build =
        ["build", "--release", "--quiet", "--package", "backout-judge", "--example", "eval"];
    run::run(run::cargo(&build)?)?;
    let began = Instant::now();
    let mut command = Command::new("nice");
    // It takes every core for a long time: whatever else runs here goes first.
    command.args(["-n", "10"]).arg(paths::target_dir()?.join("release/examples/eval"));
    command.args(&options.words).stdin(Stdio::null()).stderr(Stdio::inherit());
    let words = run::words(&command);
    let done = command.output().map_err(|e| format!("failed to start `{words}`: {e}"))?;
    if !done.status.success() {
        return Err(format!("`{words}` ended with {}", done.status));
    }
    let text = String::from_utf8(done.stdout)
        .map_err(|e| format!("failed to read what `{words}` said: {e}"))?;
    print!("{text}");
    println!("took {:.0} s", began.elapsed().as_secs_f64());
    if options.writes { write(&text) } else { Ok(()) }
}

fn write(text: &str) -> Outcome<()> {
    let path = paths::workspace_root()?.join(PAGE);
    let old = fs::read_to_string(&path).map_err(|e| format!("failed to read {PAGE}: {e}"))?;
    let (new, placed) = pages::with_tables(&old, text);
    fs::write(&path, new).map_err(|e| format!("failed to write {PAGE}: {e}"))?;
    println!(
        "updated {PAGE}: {}",
        if placed.is_empty() { "nothing".to_owned() } else { placed.join(", ") }
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_is_not_written() {
        let parse = |words: &[&str]| Options::parse(words);
        assert!(parse(&[]).unwrap().writes);
        assert!(parse(&["--only", "B1", "--seed", "7"]).unwrap().writes);
        assert!(!parse(&["--quick"]).unwrap().writes);
        assert!(!parse(&["--runs", "50"]).unwrap().writes);
        assert_eq!(parse(&["--only", "B1"]).unwrap().words, ["--only", "B1"]);
        assert!(parse(&["--runs", "many"]).unwrap_err().contains("`many`"));
        assert!(parse(&["--only"]).is_err() && parse(&["--all"]).is_err());
    }
}
