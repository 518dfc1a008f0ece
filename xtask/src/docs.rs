//! Files that the binary itself writes: `cargo xtask docs`.

use std::fs;
use std::path::Path;

use crate::{Outcome, paths, run};

/// A file of the checkout, and the arguments with which `backout` prints it.
const GENERATED: &[(&str, &[&str])] = &[("docs/backout.schema.json", &["schema"])];

/// Writes every generated file.
pub fn write() -> Outcome<()> {
    let root = paths::workspace_root()?;
    for (path, args) in GENERATED {
        fs::write(root.join(path), generate(args)?)
            .map_err(|e| format!("failed to write {path}: {e}"))?;
        println!("wrote {path}");
    }
    Ok(())
}

/// Compares every generated file with what the binary prints now.
pub fn check() -> Outcome<()> {
    let root = paths::workspace_root()?;
    let mut stale = Vec::new();
    for (path, args) in GENERATED {
        match difference(&root.join(path), &generate(args)?) {
            None => println!("{path} is as generated"),
            Some(where_) => stale.push(format!("{path}: {where_}")),
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!("{}\nrun `cargo xtask docs` and commit what it writes", stale.join("\n")))
}

fn generate(args: &[&str]) -> Outcome<String> {
    let call = ["run", "--quiet", "--locked", "--package", "backout", "--bin", "backout", "--"];
    let text = run::output(run::cargo(&[&call, args].concat())?)?;
    if text.trim().is_empty() {
        return Err(format!("failed to generate: `backout {}` printed nothing", args.join(" ")));
    }
    Ok(text)
}

fn difference(path: &Path, generated: &str) -> Option<String> {
    let Ok(written) = fs::read_to_string(path) else {
        return Some("is not there".to_owned());
    };
    if written == generated {
        return None;
    }
    let same = written.lines().zip(generated.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(same).unwrap_or("(the end)").trim().to_owned();
    Some(format!(
        "line {} holds `{}`, generated is `{}`",
        same + 1,
        line(&written),
        line(generated)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_named() {
        let path = std::env::temp_dir().join(format!("backout-xtask-docs-{}", std::process::id()));
        assert_eq!(difference(&path, "a\n").unwrap(), "is not there");
        fs::write(&path, "a\nb\n").unwrap();
        assert_eq!(difference(&path, "a\nb\n"), None);
        assert_eq!(difference(&path, "a\nc\n").unwrap(), "line 2 holds `b`, generated is `c`");
        assert_eq!(difference(&path, "a\n").unwrap(), "line 2 holds `b`, generated is `(the end)`");
        fs::remove_file(&path).unwrap();
    }
}
