//! What travels over the admin socket: one JSON document a line, each with the protocol's version.

mod fault;
mod route;
mod stats;

pub use fault::Fault;
pub use route::{
    DeadManArm, DeadManFired, DeadManOutcome, DeadManState, DrainArgs, Holder, Owner, PutArgs,
    RouteState, SideName, SideSpec, TripArm, TripFired, Weights,
};
pub use stats::{SessionSeen, Sessions, SideStats, StatsFrame};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of this protocol; another one is refused with [`Fault::UnsupportedVersion`].
pub const PROTOCOL_VERSION: u32 = 1;
/// The longest line that either side accepts.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// The socket's name within the proxy's folder.
pub const SOCKET_NAME: &str = "admin.sock";

/// One request: `{"v":1,"id":n,"cmd":"…",…}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The protocol's version.
    pub v: u32,
    /// Chosen by the client, returned with each answer.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub command: Command,
}

/// What a client can ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Command {
    /// Who answers; gives [`Hello`].
    Hello,
    /// All routes; gives a list of [`RouteState`].
    List,
    /// One route; gives [`RouteState`].
    Get {
        /// `app/environment/service`.
        route: String,
    },
    /// Creates or replaces a route; gives [`RouteState`].
    Put(Box<PutArgs>),
    /// Re-arms an armed dead-man; gives [`RouteState`].
    Renew {
        /// `app/environment/service`.
        route: String,
        /// Who asks.
        #[serde(flatten)]
        holder: Holder,
        /// The new deadline, from now.
        after_ms: u64,
    },
    /// Waits for a side to become empty; gives [`Drained`].
    Drain(DrainArgs),
    /// Removes a route; gives `null`.
    Remove {
        /// `app/environment/service`.
        route: String,
        /// Who asks.
        #[serde(flatten)]
        holder: Holder,
    },
    /// Stops the proxy as SIGTERM does; gives `null`.
    Shutdown {
        /// Refuse with [`Fault::NotIdle`] while a route exists.
        #[serde(default)]
        only_if_idle: bool,
    },
    /// Starts a stream of [`StatsFrame`] that lasts until the client closes or the route ends.
    Subscribe {
        /// `app/environment/service`.
        route: String,
        /// The time between two frames where nothing fails; failures are told at once.
        interval_ms: u64,
    },
}

/// One answer, or one frame of a stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Response {
    /// The protocol's version.
    pub v: u32,
    /// The request's id; 0 where the request could not be read.
    pub id: u64,
    /// The answer.
    #[serde(flatten)]
    pub body: Body,
}

/// The four kinds of answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Done.
    Ok(serde_json::Value),
    /// Refused, or failed.
    Error(Fault),
    /// A frame of a stream.
    Frame(Box<StatsFrame>),
    /// The stream is over; says why.
    End(String),
}

/// Who answers on the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the program.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Random id of this start; counters of two instances can't be compared.
    pub instance: String,
    /// When it started.
    pub started_at: Timestamp,
}

/// What is left after a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Requests and upgraded tunnels that are still in flight on the side.
    pub remaining: u64,
}
