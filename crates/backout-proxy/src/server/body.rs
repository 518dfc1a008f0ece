//! Bodies in both directions: passed on frame by frame, never held as a whole.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::{
    connection::{ConnState, Phase},
    exchange::Exchange,
    pool::Upstream,
};

/// The body of a request on its way to the release.
pub(crate) struct Upload(Option<(Incoming, Rc<ConnState>)>);

impl Upload {
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(body: Incoming, state: Rc<ConnState>) -> Self {
        Self(Some((body, state)))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((body, state)) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        state.awaits_client.set(polled.is_pending());
        match &polled {
            Poll::Ready(Some(Ok(_))) if !body.is_end_stream() => state.moved(),
            Poll::Ready(Some(Err(_))) => state.client_broke_off.set(true),
            Poll::Ready(_) => state.uploaded(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}

/// The body of an answer.
pub(crate) enum Download {
    /// A text of the proxy itself.
    Text(Option<Bytes>),
    /// An answer of the release.
    Relay(Box<Relay>),
}

/// An answer of the release on its way to the client. Dropping it early closes the release's connection.
pub(crate) struct Relay {
    pub(crate) body: Incoming,
    /// None where the connection was free again before the body was passed on.
    pub(crate) upstream: Option<Upstream>,
    pub(crate) exchange: Exchange,
    pub(crate) state: Rc<ConnState>,
}

impl Relay {
    fn ended(&mut self, cx: &mut Context<'_>) {
        self.exchange.ended();
        if let Some(mut upstream) = self.upstream.take() {
            upstream.drive(cx);
            if upstream.is_reusable() {
                self.exchange.side().pool.put(upstream, Instant::now());
            }
        }
        self.state.enter(Phase::Flush);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending()
            && let Some(upstream) = &mut self.upstream
        {
            upstream.drive(cx);
            polled = Pin::new(&mut self.body).poll_frame(cx);
            if polled.is_pending() && upstream.release() {
                polled = Pin::new(&mut self.body).poll_frame(cx);
            }
        }
        self.state.awaits_release.set(polled.is_pending());
        match &polled {
            Poll::Ready(Some(Ok(_))) => {
                self.state.moved();
                if self.body.is_end_stream() {
                    self.ended(cx);
                }
            }
            Poll::Ready(Some(Err(_))) => {
                self.exchange.broke_off();
                self.upstream = None;
            }
            Poll::Ready(None) => self.ended(cx),
            Poll::Pending => {}
        }
        polled
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // hyper does not poll a body that has no frames; and the sweeper may have ended a stalled one.
        if self.body.is_end_stream() {
            self.exchange.ended();
        } else if self.state.stalled_by_release.get() && self.body.size_hint().exact().is_some() {
            self.exchange.broke_off();
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Relay(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Relay(relay) => relay.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Self::Relay(relay) => relay.body.size_hint(),
        }
    }
}
