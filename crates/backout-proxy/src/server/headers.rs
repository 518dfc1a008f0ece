//! What may pass from one connection to the next, and what is added.

use hyper::{
    HeaderMap, Method, StatusCode, Uri, Version,
    header::{self, Entry, HeaderName, HeaderValue},
    http::{request, response, uri::PathAndQuery},
};

use super::{
    connection::Client,
    reply::{REASON, Reason},
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

static HOP_BY_HOP: [HeaderName; 5] =
    [KEEP_ALIVE, PROXY_CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE];

/// What the answer to a request depends on.
pub(crate) struct Asked {
    /// The client asks for another protocol.
    pub(crate) upgrade: bool,
    /// The client's connection must be closed after the answer.
    pub(crate) close: bool,
}

/// Checks a request and makes it fit for the release.
pub(crate) fn prepare(
    parts: &mut request::Parts,
    has_body: bool,
    client: &Client,
) -> Result<Asked, Reason> {
    if parts.method == Method::CONNECT {
        return Err(Reason::ConnectMethod);
    }
    let host = host(parts)?;
    let upgrade = if has_body { None } else { upgrade_of(&parts.headers, parts.version) };
    remove_hop_by_hop(&mut parts.headers);
    let headers = &mut parts.headers;
    headers.remove(header::EXPECT);
    // hyper does not tell whether a chunked request also had a length. If so, what another proxy took for the
    // end of its body may not be served as a request, so nothing is read after it.
    let close = has_body && !headers.contains_key(header::CONTENT_LENGTH);
    let asked = Asked { upgrade: upgrade.is_some(), close };
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    } else if close {
        // Said explicitly, since a GET without a length would else lose its body.
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    match headers.entry(FORWARDED_FOR) {
        Entry::Vacant(vacant) => {
            vacant.insert(client.address.clone());
        }
        Entry::Occupied(mut occupied) => {
            let joined = join(occupied.iter(), &client.address);
            occupied.insert(joined);
        }
    }
    forward(headers, FORWARDED_PROTO, HeaderValue::from_static("http"), client.is_local);
    if let Some(host) = host {
        forward(headers, FORWARDED_HOST, host, client.is_local);
    }
    parts.version = Version::HTTP_11;
    Ok(asked)
}

/// Whether the client spoke TLS with whoever passed this prepared request on; only one on this host is believed.
pub(crate) fn came_by_tls(headers: &HeaderMap) -> bool {
    headers
        .get(FORWARDED_PROTO)
        .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Sets a header; one that came from this host (where TLS may end) is kept.
fn forward(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue, keep: bool) {
    match headers.entry(name) {
        Entry::Vacant(vacant) => {
            vacant.insert(value);
        }
        Entry::Occupied(mut occupied) if !keep => {
            occupied.insert(value);
        }
        Entry::Occupied(_) => {}
    }
}

fn join<'a>(values: impl Iterator<Item = &'a HeaderValue>, last: &HeaderValue) -> HeaderValue {
    let mut joined = Vec::new();
    for value in values {
        joined.extend_from_slice(value.as_bytes());
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(last.as_bytes());
    HeaderValue::from_bytes(&joined).expect("values joined by a comma are a value")
}

/// Exactly one Host, taken from the target where that is absolute; HTTP/1.0 may do without.
fn host(parts: &mut request::Parts) -> Result<Option<HeaderValue>, Reason> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Reason::BadHost);
    }
    if let Some(authority) = parts.uri.authority() {
        let host = HeaderValue::try_from(authority.host_and_port()).map_err(|_| Reason::BadHost)?;
        let path =
            parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
        parts.headers.insert(header::HOST, host.clone());
        return Ok(Some(host));
    }
    match host {
        Some(host) if is_host(host.as_bytes()) => Ok(Some(host.clone())),
        None if parts.version == Version::HTTP_10 => {
            parts.headers.insert(header::HOST, HeaderValue::from_static("localhost"));
            Ok(None)
        }
        _ => Err(Reason::BadHost),
    }
}

/// Only what may stand in a name, an address or a port: no user, no path, no list.
fn is_host(host: &[u8]) -> bool {
    !host.is_empty()
        && host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(byte))
}

trait HostAndPort {
    fn host_and_port(&self) -> String;
}

impl HostAndPort for hyper::http::uri::Authority {
    fn host_and_port(&self) -> String {
        self.port().map_or_else(|| self.host().to_owned(), |port| format!("{}:{port}", self.host()))
    }
}

fn upgrade_of(headers: &HeaderMap, version: Version) -> Option<HeaderValue> {
    let protocol = headers.get(header::UPGRADE)?;
    (version == Version::HTTP_11
        && tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade")))
    .then(|| protocol.clone())
}

/// The names listed in Connection.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Removes what concerns one connection only. A sender can't use Connection to remove what the release relies on.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let listed: Vec<HeaderName> = tokens(headers)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            .filter(|name| !is_end_to_end(name))
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    // One look at each name that is there costs less than a search for each that may be.
    if headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

fn is_end_to_end(name: &HeaderName) -> bool {
    [
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        header::COOKIE,
        FORWARDED_FOR,
        FORWARDED_PROTO,
        FORWARDED_HOST,
    ]
    .contains(name)
}

/// Makes an answer of the release fit for the client.
pub(crate) fn prepare_answer(parts: &mut response::Parts, close: bool) {
    let upgrade = (parts.status == StatusCode::SWITCHING_PROTOCOLS)
        .then(|| parts.headers.get(header::UPGRADE).cloned())
        .flatten();
    remove_hop_by_hop(&mut parts.headers);
    // It says that the proxy answers, so no release may.
    parts.headers.remove(REASON);
    if let Some(protocol) = upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    } else if close {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    parts.version = Version::HTTP_11;
}
