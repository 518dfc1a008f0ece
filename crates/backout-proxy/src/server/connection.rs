//! One connection of a client: its task, its state and what the sweeper decides about it.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use hyper::{header::HeaderValue, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{
    forward, limits,
    route::{LocalRoute, LocalSide},
    socket::ClientIo,
    upgrade::{self, Tunnel},
    worker::Worker,
};

/// What a connection is busy with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Nothing has come since the last answer.
    Idle,
    /// A request's head has begun.
    Head,
    /// A request's body is on its way.
    Upload,
    /// The release has the whole request.
    Waiting,
    /// The answer is on its way.
    Download,
    /// The answer is written into the socket.
    Flush,
    /// Bytes in both directions.
    Tunnel,
}

/// What must happen to a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Finish the request, then close.
    Finish,
    /// Close now.
    Close,
}

/// The part of a connection that its worker can reach.
pub(crate) struct ConnState {
    worker: Rc<Worker>,
    waker: Waker,
    phase: Cell<Phase>,
    /// When the phase began, or when something last moved in it; by the worker's clock.
    since: Cell<Instant>,
    order: Cell<Option<Order>>,
    /// Replies say `Connection: close`.
    pub(crate) lame: Cell<bool>,
    response_timeout: Cell<Duration>,
    /// The release took too long.
    pub(crate) timed_out: Cell<bool>,
    /// The last poll of an upload found nothing from the client.
    pub(crate) awaits_client: Cell<bool>,
    pub(crate) client_broke_off: Cell<bool>,
    /// The last poll of a download found nothing from the release.
    pub(crate) awaits_release: Cell<bool>,
    pub(crate) stalled_by_release: Cell<bool>,
    /// The end of the upload; the release's time counts from there.
    upload_ended: Cell<Option<Instant>>,
    /// The side that the current request is on, and its cuts before.
    current: RefCell<Option<(Rc<LocalSide>, u64)>>,
    pub(crate) tunnel: RefCell<Option<Tunnel>>,
}

impl ConnState {
    fn new(worker: Rc<Worker>, waker: Waker) -> Self {
        let now = worker.now();
        Self {
            worker,
            waker,
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now),
            order: Cell::new(None),
            lame: Cell::new(false),
            response_timeout: Cell::new(Duration::from_millis(limits::RESPONSE_TIMEOUT_MS)),
            timed_out: Cell::new(false),
            awaits_client: Cell::new(false),
            client_broke_off: Cell::new(false),
            awaits_release: Cell::new(false),
            stalled_by_release: Cell::new(false),
            upload_ended: Cell::new(None),
            current: RefCell::new(None),
            tunnel: RefCell::new(None),
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.worker.now());
    }

    /// Something moved.
    pub(crate) fn moved(&self) {
        self.since.set(self.worker.now());
        if self.phase.get() == Phase::Flush {
            self.phase.set(Phase::Idle);
        }
    }

    /// The client sent something.
    pub(crate) fn bytes_came(&self) {
        match self.phase.get() {
            Phase::Idle | Phase::Flush => self.enter(Phase::Head),
            Phase::Tunnel => self.moved(),
            _ => {}
        }
    }

    /// A request goes to a side.
    pub(crate) fn on_side(&self, side: &Rc<LocalSide>, response_timeout: Duration) {
        self.timed_out.set(false);
        self.response_timeout.set(response_timeout);
        self.current.replace(Some((side.clone(), side.side.cuts())));
        self.moved();
    }

    pub(crate) fn uploaded(&self) {
        if self.phase.get() == Phase::Upload {
            self.upload_ended.set(Some(Instant::now()));
            self.enter(Phase::Waiting);
        }
    }

    /// When the release had the whole request, if its body ended after `began`.
    pub(crate) fn answer_due_since(&self, began: Instant) -> Instant {
        self.upload_ended.take().map_or(began, |ended| ended.max(began))
    }

    /// Whether the side of the current request was cut since.
    fn is_cut(&self) -> bool {
        self.current.borrow().as_ref().is_some_and(|(side, before)| side.side.cuts() != *before)
    }

    pub(crate) fn is_answering(&self) -> bool {
        matches!(self.phase.get(), Phase::Download | Phase::Flush | Phase::Tunnel)
    }

    pub(crate) fn order(&self, order: Order) {
        if self.order.get() != Some(Order::Close) {
            self.order.set(Some(order));
        }
        self.waker.wake_by_ref();
    }

    pub(crate) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// Ends what takes too long.
    pub(crate) fn sweep(&self, now: Instant) {
        let age = now.saturating_duration_since(self.since.get());
        match self.phase.get() {
            Phase::Idle if age > limits::KEEP_ALIVE => self.order(Order::Finish),
            Phase::Head if age > limits::HEAD_TIMEOUT => self.order(Order::Close),
            Phase::Upload if age > limits::STALL_TIMEOUT && self.awaits_client.get() => {
                self.order(Order::Close)
            }
            Phase::Upload if age > limits::STALL_TIMEOUT => self.time_out(),
            Phase::Waiting if age > self.response_timeout.get() => self.time_out(),
            Phase::Download | Phase::Flush if age > limits::STALL_TIMEOUT => {
                self.stalled_by_release.set(self.awaits_release.get());
                self.order(Order::Close);
            }
            Phase::Tunnel if age > limits::TUNNEL_IDLE => self.order(Order::Close),
            _ => {}
        }
    }

    fn time_out(&self) {
        self.timed_out.set(true);
        self.wake();
    }

    /// The order to close, or a cut that closes: all but what can still be answered properly.
    pub(crate) fn must_close(&self) -> bool {
        self.order.get() == Some(Order::Close) || (self.is_answering() && self.is_cut())
    }
}

/// What every request on a connection shares.
pub(crate) struct Client {
    pub(crate) route: Rc<LocalRoute>,
    pub(crate) state: Rc<ConnState>,
    /// The client's address as a header value.
    pub(crate) address: HeaderValue,
    /// Whether what the client says about forwarding is believed: it runs on this host.
    pub(crate) is_local: bool,
}

struct Registered {
    route: Rc<LocalRoute>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.route.connections.borrow_mut().remove(&self.id);
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    route: Rc<LocalRoute>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let _ = stream.set_nodelay(true);
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let state = Rc::new(ConnState::new(worker.clone(), waker));
    let id = worker.next_id();
    route.connections.borrow_mut().insert(id, state.clone());
    let _registered = Registered { route: route.clone(), id };
    state.lame.set(route.closing.get());
    let ip = peer.ip().to_canonical();
    let address =
        HeaderValue::try_from(ip.to_string()).expect("an address consists of visible ASCII");
    let client =
        Rc::new(Client { route, state: state.clone(), address, is_local: ip.is_loopback() });
    let io = TokioIo::new(ClientIo { stream, state: state.clone() });
    let service = service_fn(move |request| {
        let client = client.clone();
        async move { Ok::<_, Infallible>(forward::answer(&client, request).await) }
    });
    let mut connection = http1::Builder::new()
        .max_header_size(limits::HEAD_BYTES_MAX)
        .max_buf_size(limits::BUFFER_BYTES_MAX)
        .serve_connection(io, service);
    let ended = poll_fn(|cx| {
        if state.must_close() {
            return Poll::Ready(false);
        }
        if state.order.get() == Some(Order::Finish) {
            state.order.set(None);
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(cx).map(|result| result.is_ok())
    });
    if ended.await
        && let Some(tunnel) = state.tunnel.take()
    {
        let parts = connection.into_parts();
        upgrade::run(&state, parts.io.into_inner(), parts.read_buf, tunnel).await;
    }
}
