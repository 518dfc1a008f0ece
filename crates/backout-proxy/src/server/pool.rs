//! Connections to a release, kept alive per side and worker.
//!
//! Nobody drives an idle connection: whoever has a request in flight polls its connection itself, in the
//! task of the client's connection. That saves two wake-ups per request.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{
    body::Upload,
    limits,
    socket::{UpstreamIo, is_spent},
};

type Driver = http1::Connection<TokioIo<UpstreamIo>, Upload>;

/// One connection to a release.
pub(crate) struct Upstream {
    sender: http1::SendRequest<Upload>,
    driver: Option<Box<Driver>>,
    /// The driver is done and must not be polled again.
    over: bool,
    stream: Arc<TcpStream>,
    idle_since: Instant,
}

/// What became of a connect.
pub(crate) enum ConnectError {
    /// Nothing answered in time.
    Timeout,
    /// Refused or unreachable.
    Refused,
    /// This process is out of descriptors or memory: not the release's doing.
    Own(io::Error),
}

impl Upstream {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, ConnectError> {
        let connected = timeout(limits::CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| ConnectError::Timeout)?.map_err(connect_error)?;
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        let (sender, driver) = http1::Builder::new()
            .max_header_size(limits::HEAD_BYTES_MAX)
            .max_buf_size(limits::BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(UpstreamIo(stream.clone())))
            .await
            .map_err(|error| ConnectError::Own(io::Error::other(error)))?;
        Ok(Self {
            sender,
            driver: Some(Box::new(driver)),
            over: false,
            stream,
            idle_since: Instant::now(),
        })
    }

    /// Queues the request; [`drive`](Self::drive) then sends it.
    pub(crate) fn send(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>> + use<>
    {
        self.sender.try_send_request(request)
    }

    /// Does what can be done on the connection now.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && !self.over
        {
            self.over = Pin::new(&mut **driver).poll(cx).is_ready();
        }
    }

    /// Gives back the request that a connection which is over has not taken. True if there may be one.
    pub(crate) fn release(&mut self) -> bool {
        self.over && self.driver.take().is_some()
    }

    /// Whether the last answer is complete and another request may follow.
    pub(crate) fn is_reusable(&self) -> bool {
        !self.over && self.sender.is_ready()
    }

    /// The bare stream after an answer 101, with what the release has already said on it.
    pub(crate) async fn into_tunnel(mut self) -> Option<(UpstreamIo, bytes::Bytes)> {
        let over = std::future::poll_fn(|cx| {
            self.drive(cx);
            if self.over { Poll::Ready(()) } else { Poll::Pending }
        });
        timeout(limits::CONNECT_TIMEOUT, over).await.ok()?;
        let parts = self.driver?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }

    pub(crate) fn is_spent(&self) -> bool {
        is_spent(&self.stream)
    }
}

fn connect_error(error: io::Error) -> ConnectError {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::ADDRNOTAVAIL) => {
            ConnectError::Own(error)
        }
        _ => ConnectError::Refused,
    }
}

/// The idle connections of one side on one worker, the one used last on top.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<VecDeque<Upstream>>,
    retired: Cell<bool>,
}

impl Pool {
    /// The idle connection used last: it is the least likely to be closed, and the others may grow old.
    pub(crate) fn newest(&self, now: Instant) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let newest = idle.pop_back()?;
        if now.saturating_duration_since(newest.idle_since) > limits::POOL_IDLE {
            idle.clear();
            return None;
        }
        Some(newest)
    }

    /// An idle connection for a request that can't be sent twice: one that has been idle so long that a close
    /// of the release must have arrived, and has not.
    pub(crate) fn surest(&self, now: Instant) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(oldest) = idle.pop_front() {
            let age = now.saturating_duration_since(oldest.idle_since);
            if age < limits::CLOSE_ARRIVES_WITHIN {
                idle.push_front(oldest);
                return None;
            }
            if age <= limits::POOL_IDLE && !oldest.is_spent() {
                return Some(oldest);
            }
        }
        None
    }

    pub(crate) fn put(&self, mut upstream: Upstream, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < limits::POOL_SIZE && !self.retired.get() {
            upstream.idle_since = now;
            idle.push_back(upstream);
        }
    }

    /// Keeps nothing from now on: the side was replaced.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
    }

    /// Drops what has been idle too long or was closed by the release.
    pub(crate) fn sweep(&self) {
        self.idle
            .borrow_mut()
            .retain(|idle| idle.idle_since.elapsed() <= limits::POOL_IDLE && !idle.is_spent());
    }
}
