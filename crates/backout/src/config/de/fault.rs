//! Mismatches between tree and types, and what people are told of them.

use std::fmt;

use serde::de;

use crate::config::errors::{Problem, nearest};
use crate::config::later;
use crate::config::node::Position;

#[derive(Debug)]
pub(super) enum Fault {
    Message(String),
    UnknownKey { key: String, valid: &'static [&'static str], place: &'static str },
    UnknownWord { word: String, valid: &'static [&'static str], place: &'static str },
}

/// A mismatch; the place is added where it is known first.
#[derive(Debug)]
pub(in crate::config) struct DeError {
    pub(super) fault: Fault,
    pub(super) at: Option<Position>,
    pub(super) hint: Option<&'static str>,
}

impl DeError {
    pub(super) fn at(mut self, at: Position) -> Self {
        self.at.get_or_insert(at);
        self
    }

    /// The raw type in which an unknown key or word was met decides whether a later version knows it.
    pub(super) fn inside(mut self, name: &'static str) -> Self {
        if let Fault::UnknownKey { place, .. } | Fault::UnknownWord { place, .. } = &mut self.fault
            && place.is_empty()
        {
            *place = name;
        }
        self
    }

    pub(super) fn into_problem(self) -> Problem {
        let at = self.at;
        let problem = |message: String| Problem { message, at, hints: Vec::new() };
        match self.fault {
            Fault::Message(message) => {
                let problem = problem(message);
                match self.hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                }
            }
            Fault::UnknownKey { key, valid, place } => unknown(problem, "key", &key, valid, place),
            Fault::UnknownWord { word, valid, place } => {
                unknown(problem, "choice", &word, valid, place)
            }
        }
    }
}

fn unknown(
    problem: impl Fn(String) -> Problem,
    what: &str,
    word: &str,
    valid: &'static [&'static str],
    place: &str,
) -> Problem {
    // Reported in its own words where it stands at the top; no help to anyone else.
    let valid: Vec<&str> = valid.iter().copied().filter(|key| *key != "production").collect();
    if later::is_known(place, word) {
        return problem(format!("`{word}` is not supported by this version"))
            .hint(format!("remove it; supported here: {}", valid.join(", ")));
    }
    if let Some(elsewhere) = later::elsewhere(word).filter(|_| !valid.contains(&word)) {
        return problem(format!("unknown {what} `{word}`"))
            .hint(format!("`{word}` belongs under {elsewhere}"));
    }
    let problem = problem(format!("unknown {what} `{word}`"));
    match nearest(word, valid.iter().copied()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint(format!("valid here: {}", valid.join(", "))),
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::Message(message) => f.write_str(message),
            Fault::UnknownKey { key, .. } => write!(f, "unknown key `{key}`"),
            Fault::UnknownWord { word, .. } => write!(f, "unknown choice `{word}`"),
        }
    }
}

impl std::error::Error for DeError {}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { fault: Fault::Message(message.to_string()), at: None, hint: None }
    }
    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let fault = Fault::UnknownKey { key: field.to_owned(), valid: expected, place: "" };
        Self { fault, at: None, hint: None }
    }
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let fault = Fault::UnknownWord { word: variant.to_owned(), valid: expected, place: "" };
        Self { fault, at: None, hint: None }
    }
}
