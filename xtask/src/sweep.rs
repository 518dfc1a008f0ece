//! `cargo xtask sweep`: every proof that takes longer than continuous integration should, at full size.
//!
//! The sweeps themselves are tests of the binary (`crates/backout/tests/it/sweep`): there a sample of them runs. This
//! task hands them what to do, and a copy of the binary that nobody builds anew meanwhile.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::{Outcome, needs, paths, run};

/// What is swept, and the test that does it.
const PARTS: &[(&str, &str)] = &[
    ("boundaries", "sweep::killed_at_any_boundary"),
    ("calls", "sweep::killed_before_any_system_call"),
    ("take-overs", "sweep::takeover"),
    ("power", "sweep::power"),
    ("refused", "sweep::refused"),
    ("mutants", "sweep::mutants"),
    ("children", "kills::children"),
    ("races", "races::"),
    ("loops", "kills::loops"),
];

/// What the command line asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    part: Option<&'static str>,
    variables: Vec<(&'static str, String)>,
    may_not_install: bool,
}

impl Options {
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let variable = match *word {
                "--no-install" => {
                    options.may_not_install = true;
                    continue;
                }
                "--seed" => "BACKOUT_SWEEP_SEED",
                "--depth" => "BACKOUT_SWEEP_DEPTH",
                "--kind" => "BACKOUT_SWEEP_KIND",
                "--limit-s" => "BACKOUT_SWEEP_LIMIT_S",
                "--at-once" => "BACKOUT_SWEEP_AT_ONCE",
                name => {
                    options.part = Some(part(name)?);
                    continue;
                }
            };
            let value = words.next().ok_or(format!("{word} takes a value"))?;
            if variable != "BACKOUT_SWEEP_KIND" {
                value
                    .parse::<u64>()
                    .map_err(|_| format!("{word} takes a number, not `{value}`"))?;
            }
            options.variables.push((variable, (*value).to_owned()));
        }
        Ok(options)
    }
}

fn part(name: &str) -> Result<&'static str, String> {
    PARTS.iter().find(|(known, _)| *known == name).map(|(known, _)| *known).ok_or_else(|| {
        let names: Vec<&str> = PARTS.iter().map(|(known, _)| *known).collect();
        format!("sweep knows {}, not `{name}`", names.join(", "))
    })
}

/// Builds, then sweeps; each part says its size, its time and its seed.
pub fn run(options: &Options) -> Outcome<()> {
    needs::ensure(&["test"], !options.may_not_install)?;
    let tests = build()?;
    let folder = tempfile_folder()?;
    let result = sweep(options, &tests, &folder);
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn sweep(options: &Options, tests: &Path, folder: &Path) -> Outcome<()> {
    let copy = |from: &Path, name: &str| -> Outcome<OsString> {
        let to = folder.join(name);
        std::fs::copy(from, &to).map_err(|e| format!("failed to copy {}: {e}", from.display()))?;
        Ok(to.into_os_string())
    };
    let tests = copy(tests, "it")?;
    let binary = copy(&paths::target_dir()?.join("debug/backout"), "backout")?;
    for (name, test) in PARTS.iter().filter(|(name, _)| options.part.is_none_or(|p| p == *name)) {
        println!("\n== {name}");
        let mut command = Command::new(&tests);
        command
            .args([*test, "--nocapture", "--test-threads=1"])
            .current_dir(paths::workspace_root()?.join("crates/backout"))
            .env("BACKOUT_UNDER_TEST", &binary)
            .env("BACKOUT_SWEEP_WHOLE", "1")
            .envs(options.variables.iter().map(|(name, value)| (*name, value)));
        if !options.variables.iter().any(|(name, _)| *name == "BACKOUT_SWEEP_LIMIT_S") {
            command.env("BACKOUT_SWEEP_LIMIT_S", "7200");
        }
        run::run(command)?;
    }
    Ok(())
}

/// The test binary of the crate `backout`, built with the binary that it tests.
fn build() -> Outcome<std::path::PathBuf> {
    let args = ["test", "--package", "backout", "--test", "it", "--no-run", "--locked"];
    let said = run::output(run::cargo(&[&args[..], &["--message-format=json"]].concat())?)?;
    said.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "it")
        .find_map(|message| message["executable"].as_str().map(Into::into))
        .ok_or_else(|| "failed to find the test binary that was just built".to_owned())
}

fn tempfile_folder() -> Outcome<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("backout.sweep.{}", std::process::id()));
    std::fs::create_dir(&folder)
        .map_err(|e| format!("failed to create {}: {e}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_variables_of_the_tests() {
        let options = Options::parse(&["boundaries", "--seed", "7", "--kind", "script"]).unwrap();
        assert_eq!(options.part, Some("boundaries"));
        assert_eq!(
            options.variables,
            [("BACKOUT_SWEEP_SEED", "7".to_owned()), ("BACKOUT_SWEEP_KIND", "script".to_owned())]
        );
        assert!(Options::parse(&["--seed", "x"]).unwrap_err().contains("a number"));
        assert!(Options::parse(&["--depth"]).is_err());
        assert!(Options::parse(&["all"]).unwrap_err().contains("boundaries"));
    }
}
