//! How a command fails: what happened, what to do, and the exit code that says which kind it was.

use std::fmt;
use std::io::Write as _;

use crate::config::ConfigError;
use crate::exit_code;

/// The kinds of failure of a command that ran no operation to an end; those have codes of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Failed, nothing changed.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Refused by a rule or for lack of a confirmation.
    Refused,
    /// Somebody else's operation is in the way.
    Busy,
}

impl ErrorKind {
    /// Its exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Failed => exit_code::FAILED,
            ErrorKind::Usage => exit_code::USAGE,
            ErrorKind::Refused => exit_code::REFUSED,
            ErrorKind::Busy => exit_code::BUSY,
        }
    }
}

/// A command's failure as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// Which kind.
    pub kind: ErrorKind,
    /// "failed to …", or what was refused.
    pub message: String,
    /// What to do, most useful first.
    pub hints: Vec<String>,
}

impl CommandError {
    /// A failure without hints.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new() }
    }

    /// Failed, nothing changed.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// Refused, nothing changed.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// The command line is wrong.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// What the reader of the command line says, without its way of setting it out for people.
    #[must_use]
    pub fn of_usage(text: &str) -> Self {
        let mut parts = text.split("\n\n").map(|part| {
            let part = part.trim().trim_start_matches("error: ");
            part.split_whitespace().collect::<Vec<_>>().join(" ")
        });
        let mut error = Self::usage(parts.next().unwrap_or_default());
        error.hints = parts.filter(|part| !part.is_empty()).collect();
        error
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Writes it to standard error, in colour only where a terminal wants it. A closed standard error is no failure.
    pub fn print(&self) {
        let mut out = anstream::stderr().lock();
        let _ = out.write_all(self.styled().as_bytes());
    }

    /// For programs: what [`Self::print`] says, as the one document that they wait for.
    #[must_use]
    pub fn document(&self) -> serde_json::Value {
        serde_json::json!({
            "error": self.message,
            "hints": self.hints,
            "exit_code": self.kind.exit_code(),
        })
    }

    /// With colour codes; [`Self::print`] strips them where they are not wanted.
    fn styled(&self) -> String {
        let red = clap::builder::styling::AnsiColor::Red.on_default().bold();
        let cyan = clap::builder::styling::AnsiColor::Cyan.on_default();
        let mut text = format!("{red}error:{red:#} {}\n", self.message);
        for hint in &self.hints {
            text.push_str(&format!("{cyan}hint:{cyan:#} {hint}\n"));
        }
        text
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hints.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for CommandError {}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_code() {
        use ErrorKind::*;
        let kinds = [Failed, Usage, Refused, Busy];
        let codes: Vec<u8> = kinds.iter().map(|kind| kind.exit_code()).collect();
        assert_eq!(codes, [1, 2, 4, 5]);
    }

    #[test]
    fn a_usage_error_is_told_in_one_sentence_and_hints() {
        let error = CommandError::of_usage(
            "error: unexpected argument '--verison' found\n\n  tip: a similar argument exists: '--version'\n\n\
             Usage: backout deploy --version <V>\n\nFor more information, try '--help'.\n",
        );
        assert_eq!(error.message, "unexpected argument '--verison' found");
        assert_eq!(
            error.hints,
            [
                "tip: a similar argument exists: '--version'",
                "Usage: backout deploy --version <V>",
                "For more information, try '--help'."
            ]
        );
        assert_eq!(error.kind.exit_code(), 2);
    }

    #[test]
    fn without_colour_only_words_are_left() {
        let error = CommandError::refused("no terminal and no --yes").hint("add --yes");
        let plain = anstream::adapter::strip_str(&error.styled()).to_string();
        assert_eq!(plain, "error: no terminal and no --yes\nhint: add --yes\n");
    }
}
