//! The typed client of the admin socket.

mod error;
mod router;
mod subscription;

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::process::geteuid;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::timeout,
};

pub use error::{AdminError, Certainty};
pub use router::{BuiltinRouter, BuiltinRouterOptions};
pub use subscription::Subscription;

use crate::{
    folder::Folder,
    wire::{
        Body, Command, DrainArgs, Drained, Hello, Holder, LINE_BYTES_MAX, PROTOCOL_VERSION,
        PutArgs, Request, Response, RouteState, SideName,
    },
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Speaks to the proxy of one folder.
///
/// Each command has its own connection: none waits for another, and a proxy that was restarted is simply found again.
#[derive(Debug)]
pub struct AdminClient {
    dir: PathBuf,
    hello: Hello,
    ids: AtomicU64,
}

impl AdminClient {
    /// Finds the proxy of a folder (`<state>/proxy`) and greets it.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotRunning`] where no proxy serves the folder.
    pub async fn connect(dir: &Path) -> Result<Self, AdminError> {
        let mut client = Self::not_greeted(dir);
        client.hello = client.hello().await?;
        Ok(client)
    }

    /// For a command whose own answer says whether a proxy runs: a greeting before it would only take time.
    fn not_greeted(dir: &Path) -> Self {
        let hello = Hello {
            version: String::new(),
            pid: 0,
            instance: String::new(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
        };
        Self { dir: dir.to_owned(), hello, ids: AtomicU64::new(1) }
    }

    /// Who answered when this client connected.
    #[must_use]
    pub fn greeting(&self) -> &Hello {
        &self.hello
    }

    /// Who answers now.
    ///
    /// # Errors
    ///
    /// Where the proxy can't be asked.
    pub async fn hello(&self) -> Result<Hello, AdminError> {
        self.ask(Command::Hello, ANSWER_TIMEOUT).await
    }

    /// All routes.
    ///
    /// # Errors
    ///
    /// Where the proxy can't be asked.
    pub async fn list(&self) -> Result<Vec<RouteState>, AdminError> {
        self.ask(Command::List, ANSWER_TIMEOUT).await
    }

    /// One route.
    ///
    /// # Errors
    ///
    /// [`Fault::NoSuchRoute`](crate::wire::Fault::NoSuchRoute), or where the proxy can't be asked.
    pub async fn get(&self, route: &str) -> Result<RouteState, AdminError> {
        self.ask(Command::Get { route: route.to_owned() }, ANSWER_TIMEOUT).await
    }

    /// Creates a route, or replaces its sides, weights and dead-man together.
    ///
    /// # Errors
    ///
    /// The faults listed at [`Fault`](crate::wire::Fault), or where the proxy can't be asked.
    pub async fn put(&self, put: PutArgs) -> Result<RouteState, AdminError> {
        self.ask(Command::Put(Box::new(put)), ANSWER_TIMEOUT).await
    }

    /// Re-arms an armed dead-man.
    ///
    /// # Errors
    ///
    /// Refused where it has fired, is not armed, or a newer epoch holds the route.
    pub async fn renew(
        &self,
        route: &str,
        holder: Holder,
        after_ms: u64,
    ) -> Result<RouteState, AdminError> {
        self.ask(Command::Renew { route: route.to_owned(), holder, after_ms }, ANSWER_TIMEOUT).await
    }

    /// Waits until a side without weight has nothing in flight, or for `wait`. With `cut` nothing is waited
    /// for: what can be sent again is, all else ends.
    ///
    /// # Errors
    ///
    /// Refused where the side has weight, or a newer epoch holds the route.
    pub async fn drain(
        &self,
        route: &str,
        side: SideName,
        holder: Holder,
        wait: Duration,
        cut: bool,
    ) -> Result<Drained, AdminError> {
        let timeout_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let drain = DrainArgs { route: route.to_owned(), side, holder, timeout_ms, cut };
        self.ask(Command::Drain(drain), wait.saturating_add(ANSWER_TIMEOUT)).await
    }

    /// Removes a route.
    ///
    /// # Errors
    ///
    /// Refused where a newer epoch or another ledger holds the route.
    pub async fn remove(&self, route: &str, holder: Holder) -> Result<(), AdminError> {
        self.ask(Command::Remove { route: route.to_owned(), holder }, ANSWER_TIMEOUT).await
    }

    /// Stops the proxy once what is in flight has ended.
    ///
    /// # Errors
    ///
    /// With `only_if_idle` refused where it has routes.
    pub async fn shutdown(&self, only_if_idle: bool) -> Result<(), AdminError> {
        self.ask(Command::Shutdown { only_if_idle }, ANSWER_TIMEOUT).await
    }

    /// Follows a route's statistics.
    ///
    /// # Errors
    ///
    /// [`Fault::NoSuchRoute`](crate::wire::Fault::NoSuchRoute), or where the proxy can't be asked.
    pub async fn subscribe(
        &self,
        route: &str,
        interval: Duration,
    ) -> Result<Subscription, AdminError> {
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let mut stream = self.open().await?;
        let id = self
            .say(&mut stream, Command::Subscribe { route: route.to_owned(), interval_ms })
            .await?;
        let mut lines = Lines::new(stream);
        let first = match timeout(ANSWER_TIMEOUT, lines.next(id)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(AdminError::TimedOut),
        };
        match first {
            Body::Frame(frame) => Ok(Subscription::start(*frame, lines, id)),
            Body::Error(fault) => Err(AdminError::Refused(fault)),
            Body::Ok(_) | Body::End(_) => {
                Err(AdminError::Protocol("a subscription must begin with a frame".to_owned()))
            }
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        command: Command,
        patience: Duration,
    ) -> Result<T, AdminError> {
        let mut stream = self.open().await?;
        let id = self.say(&mut stream, command).await?;
        let mut lines = Lines::new(stream);
        match timeout(patience, lines.next(id)).await {
            Ok(Ok(Body::Ok(value))) => serde_json::from_value(value)
                .map_err(|error| AdminError::Protocol(error.to_string())),
            Ok(Ok(Body::Error(fault))) => Err(AdminError::Refused(fault)),
            Ok(Ok(Body::Frame(_) | Body::End(_))) => {
                Err(AdminError::Protocol("a frame came unasked".to_owned()))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(AdminError::TimedOut),
        }
    }

    async fn open(&self) -> Result<UnixStream, AdminError> {
        let not_running = |source| AdminError::NotRunning { dir: self.dir.clone(), source };
        let folder = Folder::open(&self.dir).map_err(not_running)?;
        let stream = match timeout(CONNECT_TIMEOUT, UnixStream::connect(folder.socket())).await {
            Ok(connected) => connected.map_err(|source| match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => not_running(source),
                _ => AdminError::Unreachable(source),
            })?,
            Err(_) => return Err(AdminError::Unreachable(io::ErrorKind::TimedOut.into())),
        };
        let peer = stream.peer_cred().map_err(AdminError::Unreachable)?.uid();
        if peer != 0 && peer != geteuid().as_raw() {
            return Err(AdminError::ForeignProxy { uid: peer });
        }
        Ok(stream)
    }

    async fn say(&self, stream: &mut UnixStream, command: Command) -> Result<u64, AdminError> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let request = Request { v: PROTOCOL_VERSION, id, command };
        let mut line = serde_json::to_vec(&request)
            .map_err(|error| AdminError::Protocol(error.to_string()))?;
        line.push(b'\n');
        if line.len() > LINE_BYTES_MAX {
            return Err(AdminError::Protocol(format!(
                "the command is longer than {LINE_BYTES_MAX} bytes"
            )));
        }
        match timeout(CONNECT_TIMEOUT, stream.write_all(&line)).await {
            Ok(written) => written.map(|()| id).map_err(AdminError::Lost),
            Err(_) => Err(AdminError::TimedOut),
        }
    }
}

/// Answers, line by line.
struct Lines(BufReader<UnixStream>);

impl Lines {
    fn new(stream: UnixStream) -> Self {
        Self(BufReader::new(stream))
    }

    async fn next(&mut self, id: u64) -> Result<Body, AdminError> {
        let mut line = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        (&mut self.0).take(limit).read_until(b'\n', &mut line).await.map_err(AdminError::Lost)?;
        if line.last() != Some(&b'\n') {
            return Err(match line.len() > LINE_BYTES_MAX {
                true => {
                    AdminError::Protocol(format!("an answer is longer than {LINE_BYTES_MAX} bytes"))
                }
                false => AdminError::Lost(io::ErrorKind::UnexpectedEof.into()),
            });
        }
        let response: Response = serde_json::from_slice(&line)
            .map_err(|error| AdminError::Protocol(error.to_string()))?;
        if response.v != PROTOCOL_VERSION || (response.id != id && response.id != 0) {
            return Err(AdminError::Protocol(
                "the answer belongs to another request or version".to_owned(),
            ));
        }
        Ok(response.body)
    }
}
