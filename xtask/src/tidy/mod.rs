//! The rules of the house that clippy does not know: `cargo xtask tidy`.

mod code;
mod direction;
mod manifest;
mod mask;
mod text;

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::{Outcome, paths, run};

/// One broken rule: where, what, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    path: String,
    line: usize,
    what: String,
    remedy: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what, remedy } = self;
        write!(f, "{path}:{line}: {what}; {remedy}")
    }
}

/// A file of the checkout; `path` is relative to its root, with `/`.
pub struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        has_extension(&self.path, &["rs"])
    }
}

/// Checks the whole checkout and prints every violation.
pub fn run() -> Outcome<()> {
    let root = paths::workspace_root()?;
    let sources = read_sources(&root)?;
    let metadata = metadata()?;
    let mut violations = direction::check(&metadata, &root.to_string_lossy());
    for source in &sources {
        violations.extend(check_source(source));
    }
    for note in sources.iter().filter_map(code::long_file_note) {
        println!("note: {note}");
    }
    if violations.is_empty() {
        println!("tidy: {} files, no rule broken", sources.len());
        return Ok(());
    }
    for violation in &violations {
        println!("{violation}");
    }
    Err(format!("tidy found {} broken rules: mend the lines above", violations.len()))
}

fn check_source(source: &Source) -> Vec<Violation> {
    let mut found = text::check(source);
    found.extend(manifest::check(source));
    if source.is_rust() {
        found.extend(code::check(source));
    }
    found
}

/// Everything that git tracks or would track, so that build output is never judged.
fn read_sources(root: &Path) -> Outcome<Vec<Source>> {
    let listed = run::output(run::git(
        root,
        &["ls-files", "-z", "-co", "--exclude-standard", "--deduplicate"],
    ))?;
    let mut sources = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // Listed but gone is a deletion that is not committed; other bytes than UTF-8 are no source.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    if sources.is_empty() {
        return Err("failed to find any source file: run it inside a git checkout".to_owned());
    }
    Ok(sources)
}

fn metadata() -> Outcome<Value> {
    let host = run::output(run::cargo(&["-vV"])?)?;
    let triple = host
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .ok_or("failed to read the host triple from `cargo -vV`")?;
    let args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", triple];
    let text = run::output(run::cargo(&args)?)?;
    serde_json::from_str(&text).map_err(|e| format!("failed to read `cargo metadata`: {e}"))
}

fn has_extension(path: &str, extensions: &[&str]) -> bool {
    Path::new(path)
        .extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| extensions.contains(&extension))
}

#[cfg(test)]
fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_reads_as_place_what_and_remedy() {
        let violation = Violation {
            path: "crates/a/src/lib.rs".into(),
            line: 7,
            what: "`dbg!`".into(),
            remedy: "take it out",
        };
        assert_eq!(violation.to_string(), "crates/a/src/lib.rs:7: `dbg!`; take it out");
    }

    #[test]
    fn this_crate_keeps_its_own_rules() {
        let root = paths::workspace_root().unwrap();
        let sources = read_sources(&root).unwrap();
        let own: Vec<_> = sources.iter().filter(|s| s.path.starts_with("xtask/")).collect();
        assert!(own.len() > 10, "{} files", own.len());
        let found: Vec<_> = own.iter().flat_map(|s| check_source(s)).collect();
        assert_eq!(found, []);
    }
}
