//! The three kinds of failure that an adapter may report.

use std::fmt;

/// What is known of the effect after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// It did not happen; again may help.
    Transient,
    /// It did not happen; again will not help.
    Permanent,
    /// It may have happened: observe before anything else.
    Unknown,
}

/// A failure of an adapter call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterError {
    /// What is known of the effect.
    pub class: ErrorClass,
    /// "failed to …", with the subject.
    pub message: String,
    /// What a person can do.
    pub hint: Option<String>,
}

impl AdapterError {
    /// It did not happen; again may help.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Transient, message: message.into(), hint: None }
    }

    /// It did not happen; again will not help.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Permanent, message: message.into(), hint: None }
    }

    /// It may have happened.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Unknown, message: message.into(), hint: None }
    }

    /// Adds what a person can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for AdapterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for AdapterError {}
