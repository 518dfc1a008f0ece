//! One request on a connection of its own.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::tls::{Stream, Trust};

/// What is asked beside the address.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    /// What answers are read; the first is liked best.
    pub accept: &'static str,
    /// The whole header, a secret.
    pub authorization: Option<String>,
    /// A form that is posted; else the address is merely got.
    pub form: Option<String>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Who may vouch for an https server.
    pub trust: Trust,
    /// Bytes of a body that are read.
    pub max_body_bytes: usize,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            accept: "application/json, */*;q=0.5",
            authorization: None,
            form: None,
            headers: Vec::new(),
            trust: Trust::System,
            max_body_bytes: 1 << 20,
        }
    }
}

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
pub(super) async fn ask(uri: &Uri, asking: &Asking) -> Result<Answer, NoAnswer> {
    let authority = uri
        .authority()
        .ok_or_else(|| NoAnswer::CouldNotCheck("the URL names no host".to_owned()))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let secure = uri.scheme_str() == Some("https");
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = connect(host, port).await?;
    let _ = stream.set_nodelay(true);
    let stream =
        if secure { asking.trust.greet(host, stream).await? } else { Stream::Plain(stream) };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| classify(&e))?;
    let request = request(uri, authority.as_str(), asking)
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
        let (body, whole) = read_body(response.into_body(), asking.max_body_bytes).await?;
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

fn request(
    uri: &Uri,
    authority: &str,
    asking: &Asking,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let method = if asking.form.is_some() { Method::POST } else { Method::GET };
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        // Without the user's name and password that a URL may hold.
        .header(HOST, authority.rsplit('@').next().unwrap_or_default())
        .header(USER_AGENT, concat!("backout/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, asking.accept)
        .header(CONNECTION, "close");
    if let Some(secret) = &asking.authorization {
        request = request.header(AUTHORIZATION, secret);
    }
    for (name, value) in &asking.headers {
        request = request.header(*name, value);
    }
    let body = asking.form.clone().unwrap_or_default();
    if asking.form.is_some() {
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    request.body(Full::new(Bytes::from(body)))
}

async fn read_body(
    mut body: hyper::body::Incoming,
    most: usize,
) -> Result<(Vec<u8>, bool), NoAnswer> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| NoAnswer::Nonsense(format!("the body broke off: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let room = most - bytes.len();
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
