//! Why a command did not succeed, and what is known about its effect.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::wire::Fault;

/// What an adapter may conclude from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// Nothing happened; the same command may succeed later.
    Transient,
    /// Nothing happened, and the same command will fail again.
    Permanent,
    /// It may have happened: observe before anything else.
    Unknown,
}

/// A command that did not succeed.
#[derive(Debug, Error)]
pub enum AdminError {
    /// No proxy serves the folder.
    #[error("failed to reach the proxy in {dir}: none runs; start it with `backout proxy`", dir = dir.display())]
    NotRunning {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The socket does not answer; nothing was sent.
    #[error("failed to connect to the proxy's admin socket")]
    Unreachable(#[source] io::Error),
    /// The socket belongs to another user; nothing was sent.
    #[error(
        "failed to trust the proxy's admin socket: user {uid} serves it; check who may write to the state folder"
    )]
    ForeignProxy {
        /// That user.
        uid: u32,
    },
    /// The connection ended before the answer.
    #[error("failed to get the proxy's answer: the connection broke off")]
    Lost(#[source] io::Error),
    /// No answer in time.
    #[error("failed to get the proxy's answer in time")]
    TimedOut,
    /// The answer makes no sense.
    #[error("failed to understand the proxy: {0}; use the same version of backout")]
    Protocol(String),
    /// The proxy refuses.
    #[error(transparent)]
    Refused(Fault),
}

impl AdminError {
    /// What is known about the effect.
    #[must_use]
    pub fn certainty(&self) -> Certainty {
        match self {
            Self::NotRunning { .. } | Self::Unreachable(_) => Certainty::Transient,
            Self::ForeignProxy { .. } => Certainty::Permanent,
            Self::Lost(_) | Self::TimedOut | Self::Protocol(_) => Certainty::Unknown,
            Self::Refused(fault) => match fault {
                Fault::Busy
                | Fault::Stopping
                | Fault::PortInUse { .. }
                | Fault::NotIdle { .. }
                | Fault::NoRandom { .. }
                | Fault::TripFiring { .. } => Certainty::Transient,
                Fault::NotPersisted { .. } => Certainty::Unknown,
                _ => Certainty::Permanent,
            },
        }
    }

    /// The refusal, if it is one.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Refused(fault) => Some(fault),
            _ => None,
        }
    }
}
