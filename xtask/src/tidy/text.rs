//! Rules about every text file.

use super::{Source, Violation, has_extension};

/// Files in which the form of each line is ours to choose; recorded output is not.
const EXTENSIONS: &[&str] =
    &["rs", "md", "toml", "yaml", "yml", "json", "sql", "sh", "html", "css", "js"];
const NAMES: &[&str] = &["justfile", ".ci/run", ".gitignore"];

/// Sentences that stand where work should; in halves, so that this file does not hold them.
const HOLLOW: &[(&str, &str)] = &[("not yet ", "implemented"), ("in a real ", "implementation")];

/// Folders that exist on one machine only.
const MACHINE: &[(&str, &str)] = &[("/wo", "rk/"), ("/ro", "ot/"), ("/fa", "rm/")];

/// What stands beside the checkout in continuous integration; only `.ci/run` may know it.
const BESIDE: (&str, &str) = ("../sha", "red");

pub(super) fn check(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    if !is_ours(&source.path) {
        return found;
    }
    for (at, line) in source.text.lines().enumerate() {
        let mut add = |what: String, remedy| {
            found.push(Violation { path: source.path.clone(), line: at + 1, what, remedy });
        };
        if line.ends_with([' ', '\t', '\r']) {
            add("white space at the end of the line".to_owned(), "cut it off");
        }
        let lower = line.to_lowercase();
        for words in HOLLOW.iter().map(joined).filter(|words| lower.contains(words)) {
            add(format!("\"{words}\""), "build it, or do not speak of it");
        }
        for folder in MACHINE.iter().map(joined).filter(|folder| has_folder(line, folder)) {
            add(format!("`{folder}` is a folder of one machine"), "find the path at run time");
        }
        if source.path != ".ci/run" && line.contains(&joined(&BESIDE)) {
            let what = format!("`{}` is outside of the checkout", joined(&BESIDE));
            add(what, "let .ci/run hand it in by a variable");
        }
    }
    found
}

fn is_ours(path: &str) -> bool {
    has_extension(path, EXTENSIONS) || NAMES.contains(&path)
}

fn joined(halves: &(&str, &str)) -> String {
    format!("{}{}", halves.0, halves.1)
}

/// Only where the path begins: `target/…` and `{dir}/…` hold a folder of the same name.
fn has_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-})$".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn whats(path: &str, text: &str) -> Vec<(usize, String)> {
        check(&source(path, text)).into_iter().map(|v| (v.line, v.what)).collect()
    }

    #[test]
    fn white_space_at_a_line_end_is_found() {
        for text in ["ok\na \n", "ok\na\t", "ok\na\r\n"] {
            let found = whats("docs/a.md", &text.replace("\r\n", "\r \n"));
            assert_eq!(found, [(2, "white space at the end of the line".to_owned())]);
        }
        assert_eq!(whats("docs/a.md", "a\n\n  b\n"), []);
        assert_eq!(whats("crates/a/tests/it/b.snap", "a \n"), [], "recorded output is as it is");
    }

    #[test]
    fn hollow_sentences_are_found_in_any_case() {
        for words in HOLLOW.iter().map(joined) {
            let found = whats("crates/a/src/b.rs", &format!("// {}", words.to_uppercase()));
            assert_eq!(found, [(1, format!("\"{words}\""))]);
        }
    }

    #[test]
    fn folders_of_one_machine_are_found() {
        for folder in MACHINE.iter().map(joined) {
            let what = format!("`{folder}` is a folder of one machine");
            assert_eq!(whats("justfile", &format!("x = \"{folder}a\"")), [(1, what)]);
            assert_eq!(whats("justfile", &format!("x = \"{{dir}}{folder}a\"; target{folder}")), []);
        }
    }

    #[test]
    fn only_the_runner_of_the_integration_knows_what_stands_beside() {
        let line = format!("db={}/advisory", joined(&BESIDE));
        assert_eq!(whats("CONTRIBUTING.md", &line).len(), 1);
        assert_eq!(whats(".ci/run", &line), []);
    }
}
