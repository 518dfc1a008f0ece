//! Users: requests at a steady rate over a few kept-alive connections, each with its outcome and time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::service::VERSION_HEADER;

/// Connections that are kept open.
pub const CONNECTIONS: u32 = 16;
/// Requests a second over all of them.
pub const RATE: u32 = 400;
/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before the first answer of all, how often a connection is tried.
const RETRY: Duration = Duration::from_millis(20);
/// Far more than a demo makes.
const RECORDS_MAX: usize = 500_000;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When its answer was whole, or was given up; microseconds since the Unix epoch.
    pub at_us: i64,
    /// Who answered; none where nobody did, or the proxy itself.
    pub version: Option<String>,
    /// A 5xx, or no answer.
    pub failed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    records: Mutex<Vec<Record>>,
    /// Somebody answered: from now on every outcome counts.
    begun: AtomicBool,
    over: AtomicBool,
}

impl Shared {
    fn add(&self, record: Record) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() < RECORDS_MAX {
            records.push(record);
        }
    }
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    users: JoinSet<()>,
}

/// Reads a load's records while it goes on.
#[derive(Debug, Clone)]
pub struct Reader(Arc<Shared>);

impl Reader {
    /// Calls `each` for the records from `seen` on, and returns how many there are now.
    pub fn since(&self, seen: usize, mut each: impl FnMut(&Record)) -> usize {
        let records = self.0.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().skip(seen).for_each(&mut each);
        records.len()
    }
}

impl Load {
    /// Begins. Nothing counts until the first answer: before the first release is live there is nobody to ask.
    #[must_use]
    pub fn start(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let mut users = JoinSet::new();
        let period = Duration::from_secs(1) * CONNECTIONS / RATE;
        let began = Instant::now();
        for number in 0..CONNECTIONS {
            let first = began + period * number / CONNECTIONS;
            users.spawn(user(address, shared.clone(), first, period));
        }
        Self { shared, users }
    }

    /// For whoever shows it live.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader(self.shared.clone())
    }

    /// Ends once requests in flight have their outcome.
    pub async fn stop(mut self) -> Vec<Record> {
        self.shared.over.store(true, Ordering::Relaxed);
        while self.users.join_next().await.is_some() {}
        let mut records = self.shared.records.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records = std::mem::take(&mut *records);
        records.sort_by_key(|record| record.at_us);
        records
    }
}

async fn user(address: SocketAddr, shared: Arc<Shared>, first: Instant, period: Duration) {
    let mut connection = None;
    let mut ticks = tokio::time::interval_at(first, period);
    // A slow answer costs its own requests, it does not make up for them in a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !shared.over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let outcome = timeout(PATIENCE, request(&mut connection, address)).await;
        let (version, failed) = match outcome {
            Ok(Some((status, version))) => (version, status >= 500),
            Ok(None) | Err(_) => {
                connection = None;
                (None, true)
            }
        };
        let begun = if failed {
            shared.begun.load(Ordering::Relaxed)
        } else {
            shared.begun.store(true, Ordering::Relaxed);
            true
        };
        if begun {
            shared.add(Record { at_us: Timestamp::now().as_microsecond(), version, failed });
        } else {
            tokio::time::sleep(RETRY).await;
        }
    }
}

type Connection = SendRequest<Empty<Bytes>>;

/// One request and its whole answer; `None` if there was none.
async fn request(
    connection: &mut Option<Connection>,
    address: SocketAddr,
) -> Option<(u16, Option<String>)> {
    // One that the other end has closed meanwhile carried nothing: another is opened.
    let still_open = match connection {
        Some(open) => open.ready().await.is_ok(),
        None => false,
    };
    if !still_open {
        *connection = Some(connect(address).await?);
    }
    let request = Request::get("/")
        .header(header::HOST, "shop.example")
        .body(Empty::new())
        .expect("a fixed request is well formed");
    let answer = connection.as_mut()?.send_request(request).await.ok()?;
    let status = answer.status().as_u16();
    let version = answer
        .headers()
        .get(VERSION_HEADER)
        .and_then(|value| value.to_str().ok())
        .map(ToOwned::to_owned);
    answer.into_body().collect().await.ok()?;
    Some((status, version))
}

async fn connect(address: SocketAddr) -> Option<Connection> {
    let stream = TcpStream::connect(address).await.ok()?;
    let _ = stream.set_nodelay(true);
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    // Ends with the sender.
    tokio::spawn(connection);
    Some(sender)
}
