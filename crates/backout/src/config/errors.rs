//! What is wrong with a configuration, said once, with the place and a way out.

use std::fmt;
use std::path::{Path, PathBuf};

use super::node::Position;

/// At most this many problems are shown at once.
const SHOWN: usize = 10;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What, lower case, one line.
    pub message: String,
    /// Where, if it has a place in the file.
    pub at: Option<Position>,
    /// What to do.
    pub hints: Vec<String>,
}

impl Problem {
    /// A problem at a place.
    #[must_use]
    pub fn at(at: Position, message: impl Into<String>) -> Self {
        Self { message: message.into(), at: Some(at), hints: Vec::new() }
    }

    /// A problem of the file as a whole.
    #[must_use]
    pub fn whole(message: impl Into<String>) -> Self {
        Self { message: message.into(), at: None, hints: Vec::new() }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// A configuration that can't be used. Its text names file, line and column and shows the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named.
    pub file: PathBuf,
    /// Never empty, in the order of the file.
    pub problems: Vec<Problem>,
    source: String,
}

impl ConfigError {
    /// Problems found in a file's text.
    #[must_use]
    pub fn new(file: &Path, source: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.at.map(|at| (at.line, at.column)));
        problems.dedup();
        Self { file: file.to_owned(), problems, source: source.to_owned() }
    }

    /// A file that could not even be read.
    #[must_use]
    pub fn unreadable(file: &Path, problem: Problem) -> Self {
        Self::new(file, "", vec![problem])
    }

    fn write_problem(&self, f: &mut fmt::Formatter<'_>, problem: &Problem) -> fmt::Result {
        write!(f, "{}", printable(&problem.message))?;
        let file = self.file.display();
        let Some(at) = problem.at else {
            write!(f, "\n --> {file}")?;
            return problem
                .hints
                .iter()
                .try_for_each(|hint| write!(f, "\n  = {}", printable(hint)));
        };
        let number = at.line.to_string();
        let pad = " ".repeat(number.len());
        write!(f, "\n{pad}--> {file}:{}:{}", at.line, at.column)?;
        if let Some(line) = self.source.lines().nth(at.line.saturating_sub(1) as usize) {
            let (line, column, len) = excerpt(line, at);
            write!(
                f,
                "\n{pad} |\n{number} | {line}\n{pad} | {}{}",
                " ".repeat(column),
                "^".repeat(len)
            )?;
        }
        problem.hints.iter().try_for_each(|hint| write!(f, "\n{pad} = {}", printable(hint)))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(SHOWN).enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            self.write_problem(f, problem)?;
        }
        match self.problems.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n\nand {more} more"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The line as it may be shown: no control characters, at most 120 characters around the place.
fn excerpt(line: &str, at: Position) -> (String, usize, usize) {
    const WIDTH: usize = 120;
    let chars: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let column = (at.column.saturating_sub(1) as usize).min(chars.len());
    let start = if column < WIDTH { 0 } else { column - WIDTH / 2 };
    let end = chars.len().min(start + WIDTH);
    let len = (at.len.max(1) as usize).min((end - column).max(1));
    (chars[start..end].iter().collect::<String>().trim_end().to_owned(), column - start, len)
}

/// A file may hold escape sequences; a terminal must not obey them.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// The candidate that was probably meant.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, candidate)| {
            let longest = word.chars().count().max(candidate.len());
            *distance <= 1.max(longest / 3) || candidate.starts_with(&word) && word.len() >= 3
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let keys = ["health", "hosts", "bake_time", "strategy"];
        assert_eq!(nearest("helth", keys), Some("health"));
        assert_eq!(nearest("bake-time", keys), Some("bake_time"));
        assert_eq!(nearest("strat", keys), Some("strategy"));
        assert_eq!(nearest("xyzzy", keys), None);
    }

    #[test]
    fn the_caret_stands_under_the_place_also_in_long_lines() {
        let line = format!("{}bad", "x".repeat(500));
        let (shown, column, len) = excerpt(&line, Position { line: 1, column: 501, len: 3 });
        assert_eq!(&shown[column..column + len], "bad");
    }

    #[test]
    fn escape_sequences_do_not_reach_a_terminal() {
        let error = ConfigError::new(
            Path::new("backout.yaml"),
            "a\u{1b}[31m: 1",
            vec![Problem::at(Position { line: 1, column: 1, len: 2 }, "unknown key `a\u{1b}[31m`")],
        );
        assert!(!error.to_string().contains('\u{1b}'));
    }
}
