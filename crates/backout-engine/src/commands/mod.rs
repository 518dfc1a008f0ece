//! What people and surfaces can ask for, one file a verb.

pub mod adopt;
pub(crate) mod claim;
pub mod control;
pub mod deploy;
pub mod doctor;
pub mod down;
pub mod drill;
pub(crate) mod earlier;
pub mod eject;
pub mod health;
mod look;
pub mod recover;
pub(crate) mod requests;
pub mod rollback;
mod rollback_part;
pub(crate) mod take_back;

use backout_core::model::{ReadinessCheck, Severity};
use backout_core::plan::Refusal;
use backout_core::ports::{AdapterError, LeaseView, LedgerError};
use backout_core::saga::CorruptJournal;

use crate::journal::JournalError;

/// A command that was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub message: String,
    /// What to do.
    pub hints: Vec<String>,
    /// The checks that stand behind it.
    pub checks: Vec<ReadinessCheck>,
}

impl Refused {
    /// A refusal with advice.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hints: vec![hint.into()], checks: Vec::new() }
    }
}

/// The refusal of `what` by its failing checks; `None` if none fails. `hint` gives the advice for them.
pub(crate) fn refused_by(
    what: &str,
    checks: &[ReadinessCheck],
    hint: impl Fn(&ReadinessCheck) -> Option<String>,
) -> Option<Refused> {
    let wrong: Vec<&ReadinessCheck> =
        checks.iter().filter(|check| check.status == Severity::Error).collect();
    if wrong.is_empty() {
        return None;
    }
    let words: Vec<String> =
        wrong.iter().map(|check| format!("{}: {}", check.name, check.message)).collect();
    let mut hints: Vec<String> = wrong.into_iter().filter_map(hint).collect();
    hints.dedup();
    Some(Refused {
        message: format!("the {what} is refused, nothing was changed: {}", words.join("; ")),
        hints,
        checks: checks.to_vec(),
    })
}

/// A time in a sentence.
pub(crate) fn clock(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Why a command did not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// A rule says no.
    #[error("{}", .0.message)]
    Refused(Box<Refused>),
    /// Somebody else holds the environment.
    #[error("{} is busy with `{}` since {}", .0.holder.label, .0.holder.activity, clock(.0.since))]
    Busy(Box<LeaseView>),
    /// It could not be done; nothing was changed.
    #[error("{0}")]
    Failed(String),
    /// The store.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The journal.
    #[error(transparent)]
    Journal(JournalError),
}

impl From<JournalError> for EngineError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Ledger(error) => EngineError::Ledger(error),
            other => EngineError::Journal(other),
        }
    }
}

impl From<Refused> for EngineError {
    fn from(refused: Refused) -> Self {
        EngineError::Refused(Box::new(refused))
    }
}

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        Refused {
            message: refusal.message,
            hints: refusal.hint.into_iter().collect(),
            checks: Vec::new(),
        }
        .into()
    }
}

impl From<AdapterError> for EngineError {
    fn from(error: AdapterError) -> Self {
        EngineError::Failed(error.to_string())
    }
}

impl From<CorruptJournal> for EngineError {
    fn from(error: CorruptJournal) -> Self {
        EngineError::Journal(error.into())
    }
}
