//! Why the proxy refuses.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{DeadManFired, SideName, TripFired};

/// A refusal, or a failure, of a command.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Fault {
    /// A newer holder has commanded this route; nothing changed.
    #[error("failed to command the route: epoch {current} already holds it; stop this operation")]
    StaleEpoch {
        /// The route's epoch.
        current: u64,
    },
    /// Another ledger manages this route; nothing changed.
    #[error(
        "failed to command the route: ledger {ledger} manages it; use that ledger, or take the route over"
    )]
    NotOwner {
        /// The ledger that does.
        ledger: String,
    },
    /// The address is taken; nothing changed.
    #[error(
        "failed to listen on {addr}: the address is in use; stop what listens there or choose another"
    )]
    PortInUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The address can't be bound for another reason; nothing changed.
    #[error("failed to listen on {addr}: {message}")]
    BindFailed {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        message: String,
    },
    /// The command makes no sense; nothing changed.
    #[error("failed to read the command: {message}")]
    Invalid {
        /// What is wrong.
        message: String,
    },
    /// The dead-man has fired since; adopt that, then put with `acknowledge_fired`.
    #[error("failed to command the route: its dead-man has fired; adopt what it did first")]
    DeadManFired {
        /// What it did.
        fired: Box<DeadManFired>,
    },
    /// The trip has fired since; adopt that, then put with `acknowledge_fired`.
    #[error("failed to command the route: its trip has fired; adopt what it did first")]
    TripFired {
        /// What it did.
        fired: Box<TripFired>,
    },
    /// The trip is about to fire: it asks the stable side. Ask again in a moment.
    #[error(
        "failed to command the route: its trip is about to take side {side} out; try again in a moment"
    )]
    TripFiring {
        /// The side on trial.
        side: SideName,
    },
    /// There is no armed dead-man to renew.
    #[error("failed to renew the dead-man: none is armed; put the weights together with one")]
    NotArmed,
    /// The side still gets new requests.
    #[error("failed to drain side {side}: it has {percent} % of the traffic; take that away first")]
    HasWeight {
        /// The side.
        side: SideName,
        /// Its weight.
        percent: u8,
    },
    /// There is no such route.
    #[error("failed to find route {route}: put it first")]
    NoSuchRoute {
        /// The name asked for.
        route: String,
    },
    /// It is in force, but could not be written down; it is written again each second.
    #[error(
        "failed to persist the routes, although the change is in force: {message}; free space in the state folder"
    )]
    NotPersisted {
        /// What the system says.
        message: String,
    },
    /// The proxy has routes.
    #[error("failed to stop the proxy: it still serves {routes} route(s)")]
    NotIdle {
        /// How many.
        routes: usize,
    },
    /// The system gives no random numbers; nothing changed.
    #[error("failed to draw the key of a sticky route: {message}")]
    NoRandom {
        /// What the system says.
        message: String,
    },
    /// Too many admin connections.
    #[error("failed to serve this connection: too many admin connections; try again")]
    Busy,
    /// The proxy is stopping.
    #[error("failed to serve this command: the proxy is stopping; start it again first")]
    Stopping,
    /// The peer speaks another version.
    #[error(
        "failed to agree on a protocol: the proxy speaks version {supported}; use the same version of backout"
    )]
    UnsupportedVersion {
        /// The version spoken here.
        supported: u32,
    },
}
