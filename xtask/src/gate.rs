//! `cargo xtask test`: everything that must hold before a change goes in.

use std::time::{Duration, Instant};

use crate::{Outcome, advisories, docs, needs, paths, run, suites, tidy};

/// A part of the gate; the order here is the order of running, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    Fmt,
    Tidy,
    Clippy,
    Deny,
    Test,
    Docs,
}

impl Area {
    pub const ALL: [Self; 6] =
        [Self::Fmt, Self::Tidy, Self::Clippy, Self::Deny, Self::Test, Self::Docs];

    pub fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Tidy => "tidy",
            Self::Clippy => "clippy",
            Self::Deny => "deny",
            Self::Test => "test",
            Self::Docs => "docs",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Fmt => "cargo fmt --all --check",
            Self::Tidy => "cargo xtask tidy",
            Self::Clippy => "cargo clippy --workspace --all-targets -- -D warnings",
            Self::Deny => "cargo deny check",
            Self::Test => "cargo test --workspace; what fails is run once more, alone",
            Self::Docs => "cargo xtask docs --check",
        }
    }

    fn run(self) -> Outcome<()> {
        let cargo = |args: &[&str]| run::run(run::cargo(args)?);
        match self {
            Self::Fmt => cargo(&["fmt", "--all", "--check"]),
            Self::Tidy => tidy::run(),
            Self::Clippy => {
                let what = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet"];
                cargo(&[&what[..], &["--", "-D", "warnings"]].concat())
            }
            Self::Deny => advisories::check(),
            Self::Test => suites::test(),
            Self::Docs => docs::check(),
        }
    }
}

/// What the command line asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    may_install: bool,
    areas: Vec<Area>,
}

impl Options {
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Self { may_install: true, areas: Area::ALL.to_vec() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--no-install" => options.may_install = false,
                "--only" => options.areas = vec![area(words.next().copied().unwrap_or_default())?],
                other => return Err(format!("`{other}` is not an option of `test`")),
            }
        }
        Ok(options)
    }
}

fn area(name: &str) -> Result<Area, String> {
    Area::ALL.into_iter().find(|area| area.name() == name).ok_or_else(|| {
        let names = Area::ALL.map(Area::name).join(", ");
        format!("--only takes one of {names}, not `{name}`")
    })
}

/// Finds or installs what is needed, then runs the areas in order up to the first that fails.
pub fn run(options: &Options) -> Outcome<()> {
    println!("build folder: {}", paths::target_dir()?.display());
    println!("needed:");
    let names: Vec<&str> = options.areas.iter().map(|area| area.name()).collect();
    needs::ensure(&names, options.may_install)?;
    let mut done = Vec::new();
    for area in &options.areas {
        println!("\n== {}: {}", area.name(), area.about());
        let start = Instant::now();
        let result = area.run();
        let took = start.elapsed();
        println!("== {} took {}", area.name(), seconds(took));
        done.push((*area, took));
        if let Err(error) = result {
            println!("\n{error}");
            return Err(summary_of_failure(&options.areas, &done));
        }
    }
    println!("\npassed: {}", list(&done));
    Ok(())
}

fn summary_of_failure(areas: &[Area], done: &[(Area, Duration)]) -> String {
    let (failed, before) = done.split_last().expect("an area that failed was run");
    let name = failed.0.name();
    let mut text = format!("{name} failed");
    if !before.is_empty() {
        text.push_str(&format!("; passed: {}", list(before)));
    }
    let rest: Vec<&str> = areas[done.len()..].iter().map(|area| area.name()).collect();
    if !rest.is_empty() {
        text.push_str(&format!("; not run: {}", rest.join(", ")));
    }
    format!("{text}\nmend it, then look again with `cargo xtask test --only {name}`")
}

fn list(done: &[(Area, Duration)]) -> String {
    let each = |(area, took): &(Area, Duration)| format!("{} {}", area.name(), seconds(*took));
    done.iter().map(each).collect::<Vec<_>>().join(", ")
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_narrow_and_forbid() {
        let all = Options::parse(&[]).unwrap();
        assert_eq!(all, Options { may_install: true, areas: Area::ALL.to_vec() });
        let one = Options::parse(&["--only", "deny", "--no-install"]).unwrap();
        assert_eq!(one, Options { may_install: false, areas: vec![Area::Deny] });
    }

    #[test]
    fn an_unknown_area_or_option_is_refused_with_what_exists() {
        let error = Options::parse(&["--only", "tests"]).unwrap_err();
        assert!(error.contains("fmt, tidy, clippy, deny, test, docs, not `tests`"), "{error}");
        assert!(Options::parse(&["--only"]).is_err());
        assert!(Options::parse(&["--skip"]).unwrap_err().contains("`--skip`"));
    }

    #[test]
    fn a_failure_says_what_passed_and_what_never_ran() {
        let second = Duration::from_secs(1);
        let text = summary_of_failure(&Area::ALL, &[(Area::Fmt, second), (Area::Tidy, second)]);
        assert!(
            text.starts_with("tidy failed; passed: fmt 1.0 s; not run: clippy, deny, test, docs")
        );
        assert!(text.ends_with("`cargo xtask test --only tidy`"));
    }
}
