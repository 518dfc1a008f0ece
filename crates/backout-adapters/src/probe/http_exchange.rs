//! One request on a connection of its own.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Bytes of a body that are read.
const MAX_BODY_BYTES: usize = 1 << 20;

/// What came back.
pub(super) struct Answer {
    pub status: StatusCode,
    pub location: Option<String>,
    pub body: Vec<u8>,
    /// Nothing was left unread.
    pub whole: bool,
}

/// Why nothing came back.
pub(super) enum NoAnswer {
    /// Refused, or closed before it said anything: nobody is at home yet.
    NotReady(String),
    /// It said something that is no HTTP.
    Nonsense(String),
    /// The check could not be made.
    CouldNotCheck(String),
}

/// Asks once. The connection is closed afterwards, so that each check sees what a new client would see.
pub(super) async fn ask(uri: &Uri) -> Result<Answer, NoAnswer> {
    let authority = uri
        .authority()
        .ok_or_else(|| NoAnswer::CouldNotCheck("the URL names no host".to_owned()))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = connect(host, authority.port_u16().unwrap_or(80)).await?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| classify(&e))?;
    // Without the user's name and password that a URL may hold.
    let host_header = authority.as_str().rsplit('@').next().unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::get(path)
        .header(HOST, host_header)
        .header(USER_AGENT, concat!("backout/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json, */*;q=0.5")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| NoAnswer::CouldNotCheck(format!("the URL can't be asked for: {e}")))?;
    // Both halves run in this future, so that dropping it closes the connection.
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| classify(&e))?;
        let status = response.status();
        let location = response
            .headers()
            .get(hyper::header::LOCATION)
            .and_then(|l| l.to_str().ok())
            .map(str::to_owned);
        let (body, whole) = read_body(response.into_body()).await?;
        Ok(Answer { status, location, body, whole })
    };
    tokio::pin!(exchange, connection);
    let mut connected = true;
    loop {
        tokio::select! {
            answer = &mut exchange => return answer,
            _ = &mut connection, if connected => connected = false,
        }
    }
}

async fn read_body(mut body: hyper::body::Incoming) -> Result<(Vec<u8>, bool), NoAnswer> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| NoAnswer::Nonsense(format!("the body broke off: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let room = MAX_BODY_BYTES - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok((bytes, false));
        }
    }
    Ok((bytes, true))
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, NoAnswer> {
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|e| NoAnswer::CouldNotCheck(format!("failed to resolve `{host}`: {e}")))?;
    let mut last = None;
    for address in addresses.take(8) {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = Some(e),
        }
    }
    match last {
        None => Err(NoAnswer::CouldNotCheck(format!("failed to resolve `{host}`: no address"))),
        Some(e) => Err(connect_error(&e)),
    }
}

/// What a failed connection means.
pub(super) fn connect_error(error: &io::Error) -> NoAnswer {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable => NoAnswer::NotReady(error.to_string()),
        _ => NoAnswer::CouldNotCheck(format!("failed to connect: {error}")),
    }
}

fn classify(error: &hyper::Error) -> NoAnswer {
    let reset = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|e| {
            matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
        });
    if reset || error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        NoAnswer::NotReady("the connection was closed before an answer".to_owned())
    } else {
        NoAnswer::Nonsense(format!("the answer is no HTTP: {error}"))
    }
}
