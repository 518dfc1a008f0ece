//! All limits of the data plane in one place.

use std::time::Duration;

/// A connect to a release that takes longer counts as no answer.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a release may take to begin its answer, where the route says nothing else.
pub(crate) const RESPONSE_TIMEOUT_MS: u64 = 60_000;
/// A request line and its headers must be complete within this time.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A kept-alive connection of a client is closed after this time without a request.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// An upload or a download that does not move for this time is over.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(300);
/// A tunnel in which nothing moves for this time is closed; that is no error of the release.
pub(crate) const TUNNEL_IDLE: Duration = Duration::from_secs(3600);
/// Kept-alive connections to a release are dropped after this time, before usual servers (5 s and more) do.
pub(crate) const POOL_IDLE: Duration = Duration::from_secs(2);
/// Idle connections kept per side and worker.
pub(crate) const POOL_SIZE: usize = 256;
/// A release that closes a connection after an answer has done so within this time. A request that can't be
/// sent twice takes no connection that was used later than that.
pub(crate) const CLOSE_ARRIVES_WITHIN: Duration = Duration::from_millis(1);
/// A reused connection that dies this soon after a request was written was closed by the release before it
/// saw the request.
pub(crate) const RACE_WINDOW: Duration = Duration::from_millis(50);
/// How often a worker looks for what has taken too long.
pub(crate) const SWEEP: Duration = Duration::from_millis(100);
/// Bytes of a message's head at most; more are answered with 431, as are more than 100 header lines (hyper's
/// own limit; setting another makes each parse slower).
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes that a connection buffers at most, per direction.
pub(crate) const BUFFER_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;
/// How often one request may be taken from a side whose weight went to 0.
pub(crate) const RESCUES_MAX: u32 = 3;
/// In-flight requests are given this time to end when the proxy stops.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// A start waits so long for one that is stopping in its folder.
pub(crate) const SUCCESSION_TIME: Duration = Duration::from_secs(3);
/// Kept-alive clients are told `Connection: close` for this time before idle ones are closed.
pub(crate) const LAME_TIME: Duration = Duration::from_millis(300);
/// Worker threads at most.
pub(crate) const WORKERS_MAX: usize = 16;
/// Descriptors kept for everything but client connections and their counterparts.
pub(crate) const DESCRIPTORS_RESERVED: u64 = 256;
