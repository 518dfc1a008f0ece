//! A request's way to a release and back.

use std::{future::poll_fn, pin::pin, rc::Rc, task::Poll, time::Instant};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    http::request,
};

use super::{
    body::{Download, Relay, Upload},
    connection::{Client, Phase},
    endpoints::Kind,
    exchange::Exchange,
    headers::{self, Asked},
    limits,
    pool::{ConnectError, Upstream},
    reply::Reason,
    route::{LocalSide, LocalTable},
    sticky::Session,
    upgrade::Tunnel,
};

/// A request that waits to be sent, perhaps more than once.
struct Outgoing {
    /// The next copy to send; taken while a request that can't be repeated is on its way.
    request: Option<Request<Upload>>,
    /// Idempotent and without a body: it may be sent again.
    repeatable: bool,
    asked: Asked,
    /// Who asks, where clients stay on their side.
    session: Option<Session>,
}

impl Outgoing {
    fn new(parts: request::Parts, body: Upload, asked: Asked, session: Option<Session>) -> Self {
        let is_upload = !body.is_end_stream();
        let idempotent = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        Self {
            session,
            repeatable: idempotent && !is_upload && !asked.upgrade,
            request: Some(Request::from_parts(parts, body)),
            asked,
        }
    }

    /// The endpoint, for the side's books.
    fn kind(&self, side: &LocalSide) -> Kind {
        self.request.as_ref().map_or(Kind::OTHER, |request| {
            side.shard().endpoints().kind(request.method(), request.uri().path())
        })
    }

    fn next(&mut self) -> Option<Request<Upload>> {
        if !self.repeatable {
            return self.request.take();
        }
        let kept = self.request.as_ref()?;
        let mut copy = Request::new(Upload::none());
        *copy.method_mut() = kept.method().clone();
        *copy.uri_mut() = kept.uri().clone();
        *copy.version_mut() = kept.version();
        *copy.headers_mut() = kept.headers().clone();
        Some(copy)
    }
}

/// Why an attempt on a side gave no answer of the release.
enum Failure {
    /// The release is to blame; another side may do better where `elsewhere` says so.
    Release { reason: Reason, elsewhere: bool },
    /// The side has lost its weight: go where the weight is.
    Withdrawn,
    /// Nobody's fault, or the client's; answer with this.
    Other(Reason),
}

/// Answers a request, through a release if one has weight.
pub(crate) async fn answer(client: &Client, request: Request<Incoming>) -> Response<Download> {
    let state = &client.state;
    let (mut parts, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    state.enter(if has_body { Phase::Upload } else { Phase::Waiting });
    let response = match headers::prepare(&mut parts, has_body, client) {
        Err(reason) => reason.response(),
        Ok(asked) => {
            let body = if has_body { Upload::new(body, state.clone()) } else { Upload::none() };
            let table = client.route.table();
            let session = client.route.session(&table, &parts.headers);
            let is_secure = session.is_some() && headers::came_by_tls(&parts.headers);
            let outgoing = Outgoing::new(parts, body, asked, session);
            let mut answer = route(client, table.clone(), outgoing).await;
            if let (Some(sticky), Some(session)) = (&table.sticky, session) {
                sticky.hand_out(session, is_secure, answer.headers_mut());
            }
            answer
        }
    };
    if response.body().is_end_stream() || matches!(response.body(), Download::Text(_)) {
        state.enter(Phase::Flush);
    } else {
        state.enter(Phase::Download);
    }
    response
}

/// Tries the side that is due, and another one where that helps the user without hiding the failure.
async fn route(
    client: &Client,
    mut table: Rc<LocalTable>,
    mut outgoing: Outgoing,
) -> Response<Download> {
    let shared = &client.route.shared;
    let Some(mut side) = table.pick(shared, outgoing.session) else {
        return Reason::NoSide.response();
    };
    let mut spared = false;
    for _ in 0..=limits::RESCUES_MAX {
        let failure = match on_side(client, &table, &side, &mut outgoing).await {
            Ok(response) => return response,
            Err(failure) => failure,
        };
        table = client.route.table();
        let next = match failure {
            Failure::Other(reason) => return reason.response(),
            Failure::Withdrawn => table.pick(shared, outgoing.session),
            Failure::Release { reason, elsewhere } => {
                // What can't be repeated is still here only if it never left.
                let may_go = elsewhere && !spared && outgoing.request.is_some();
                let next = table.instead_of(&side).filter(|_| may_go);
                let Some(next) = next else { return reason.response() };
                side.shard().spared();
                spared = true;
                Some(next)
            }
        };
        let Some(next) = next else { return Reason::NoSide.response() };
        side = next;
    }
    Reason::Withdrawn.response()
}

/// How a request left on one connection ended.
enum Sent {
    Answer(Response<Incoming>),
    /// It never left.
    Unsent(Request<Upload>),
    /// The connection died.
    Lost {
        bad_answer: bool,
    },
    TimedOut,
    Withdrawn,
    Cut,
}

/// One side's try, over a kept connection and, where that is dead, over a fresh one.
async fn on_side(
    client: &Client,
    table: &LocalTable,
    side: &Rc<LocalSide>,
    outgoing: &mut Outgoing,
) -> Result<Response<Download>, Failure> {
    let session = outgoing.session.map(|session| session.number);
    let exchange =
        Exchange::begin(side.clone(), client.route.clone(), outgoing.kind(side), session);
    client.state.on_side(side, table.response_timeout);
    let mut fresh_only = false;
    loop {
        let mut began = Instant::now();
        let kept = match outgoing.repeatable {
            _ if fresh_only => None,
            true => side.pool.newest(began),
            false => side.pool.surest(began),
        };
        let (mut upstream, reused) = match kept {
            Some(kept) => (kept, true),
            None => match Upstream::connect(side.upstream()).await {
                Ok(fresh) => {
                    began = Instant::now();
                    (fresh, false)
                }
                Err(error) => return Err(unreachable_side(exchange, error)),
            },
        };
        let Some(request) = outgoing.next() else { return Err(lost(exchange, false)) };
        match send(client, side, outgoing, &mut upstream, request).await {
            Sent::Answer(response) => {
                return finish(client, exchange, upstream, response, &outgoing.asked, began).await;
            }
            Sent::Unsent(request) => {
                if !outgoing.repeatable {
                    outgoing.request = Some(request);
                }
                if !reused {
                    return Err(lost(exchange, false));
                }
                side.shard().pool_race();
            }
            Sent::Lost { .. } if reused && outgoing.repeatable => side.shard().pool_race(),
            Sent::Lost { .. } if client.state.client_broke_off.get() => {
                drop(exchange);
                return Err(Failure::Other(Reason::BadRequest));
            }
            Sent::Lost { bad_answer }
                if reused && !bad_answer && began.elapsed() < limits::RACE_WINDOW =>
            {
                return Err(raced_or_dead(exchange).await);
            }
            Sent::Lost { bad_answer } => return Err(lost(exchange, bad_answer)),
            Sent::TimedOut => {
                exchange.no_answer();
                return Err(Failure::Release { reason: Reason::ResponseTimeout, elsewhere: false });
            }
            Sent::Withdrawn => {
                exchange.rescued();
                return Err(Failure::Withdrawn);
            }
            Sent::Cut => {
                exchange.rescued();
                return Err(Failure::Other(Reason::Withdrawn));
            }
        }
        fresh_only = true;
    }
}

fn lost(exchange: Exchange, bad_answer: bool) -> Failure {
    exchange.no_answer();
    let reason = if bad_answer { Reason::BadAnswer } else { Reason::NoAnswer };
    Failure::Release { reason, elsewhere: !bad_answer }
}

fn unreachable_side(exchange: Exchange, error: ConnectError) -> Failure {
    let reason = match error {
        ConnectError::Refused => Reason::Refused,
        ConnectError::Timeout => Reason::ConnectTimeout,
        ConnectError::Own(error) => {
            tracing::warn!(%error, "failed to open a connection to a release: the proxy is out of resources");
            exchange.raced();
            return Failure::Other(Reason::Overloaded);
        }
    };
    exchange.no_answer();
    Failure::Release { reason, elsewhere: true }
}

/// A kept connection died right after a request that can't be repeated was written. Where the release still
/// takes connections it had merely closed this one; where it does not, it is down, and that counts.
async fn raced_or_dead(exchange: Exchange) -> Failure {
    match Upstream::connect(exchange.side().upstream()).await {
        Ok(fresh) => {
            let side = exchange.side().clone();
            side.shard().pool_race();
            exchange.raced();
            side.pool.put(fresh, Instant::now());
            Failure::Other(Reason::ConnectionRace)
        }
        Err(_) => lost(exchange, false),
    }
}

/// Sends a request and waits for the head of its answer, driving the connection meanwhile.
async fn send(
    client: &Client,
    side: &LocalSide,
    outgoing: &Outgoing,
    upstream: &mut Upstream,
    request: Request<Upload>,
) -> Sent {
    let state = &client.state;
    let (cuts, rescues) = (side.side.cuts(), side.side.rescues());
    let mut answer = pin!(upstream.send(request));
    let result = poll_fn(|cx| {
        upstream.drive(cx);
        let mut polled = answer.as_mut().poll(cx);
        if polled.is_pending() && upstream.release() {
            polled = answer.as_mut().poll(cx);
        }
        if let Poll::Ready(result) = polled {
            return Poll::Ready(match result {
                Ok(response) => Sent::Answer(response),
                Err(mut error) => match error.take_message() {
                    Some(request) => Sent::Unsent(request),
                    None => Sent::Lost { bad_answer: error.error().is_parse() },
                },
            });
        }
        if state.timed_out.get() {
            return Poll::Ready(Sent::TimedOut);
        }
        if outgoing.repeatable && side.side.rescues() != rescues {
            return Poll::Ready(Sent::Withdrawn);
        }
        if side.side.cuts() != cuts {
            return Poll::Ready(Sent::Cut);
        }
        Poll::Pending
    });
    result.await
}

/// Turns the release's answer into the client's.
async fn finish(
    client: &Client,
    mut exchange: Exchange,
    mut upstream: Upstream,
    response: Response<Incoming>,
    asked: &Asked,
    began: Instant,
) -> Result<Response<Download>, Failure> {
    let (mut parts, body) = response.into_parts();
    if parts.status.is_informational()
        && !(asked.upgrade && parts.status == StatusCode::SWITCHING_PROTOCOLS)
    {
        return Err(lost(exchange, true));
    }
    let now = Instant::now();
    let due_since = client.state.answer_due_since(began);
    exchange.answered(parts.status, now.saturating_duration_since(due_since));
    headers::prepare_answer(&mut parts, asked.close || client.state.lame.get());
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let Some((io, early)) = upstream.into_tunnel().await else {
            exchange.broke_off();
            return Err(Failure::Other(Reason::BadAnswer));
        };
        exchange.tunnel();
        client.state.tunnel.replace(Some(Tunnel { upstream: io, early, exchange }));
        return Ok(Response::from_parts(parts, Download::Text(None)));
    }
    if !upstream.is_reusable() {
        poll_fn(|cx| {
            upstream.drive(cx);
            Poll::Ready(())
        })
        .await;
    }
    let upstream = if upstream.is_reusable() {
        exchange.side().pool.put(upstream, now);
        None
    } else {
        Some(upstream)
    };
    let relay = Relay { body, upstream, exchange, state: client.state.clone() };
    Ok(Response::from_parts(parts, Download::Relay(Box::new(relay))))
}
