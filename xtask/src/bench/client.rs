//! One keep-alive connection that sends GETs, as plain as can be.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::backend::{Side, find_end};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: bench.local\r\n\r\n";
const TIMEOUT: Duration = Duration::from_secs(5);

/// A client that opens its connection when it needs one.
pub(super) struct Client {
    address: SocketAddr,
    open: Option<TcpStream>,
    buffer: Vec<u8>,
    /// Requests that met a connection the server had just closed and went again on a fresh one.
    pub(super) raced: u64,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, open: None, buffer: vec![0; 16 * 1024], raced: 0 }
    }

    /// Sends a GET and tells which side answered; anything but a whole 200 is an error.
    ///
    /// A kept connection may close just as it is used again. Every HTTP client then repeats the
    /// request once on a fresh one, if nothing was answered; so does this one, and counts it.
    pub(super) fn get(&mut self) -> io::Result<Side> {
        let reused = self.open.is_some();
        match self.exchange() {
            Err(Broken::BeforeAnswer(_)) if reused => {
                self.raced += 1;
                self.exchange().map_err(Broken::into_error)
            }
            result => result.map_err(Broken::into_error),
        }
    }

    fn exchange(&mut self) -> Result<Side, Broken> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => connect(self.address).map_err(Broken::Refused)?,
        };
        stream.write_all(REQUEST).map_err(Broken::BeforeAnswer)?;
        let (mut filled, mut head) = (0, None);
        loop {
            let read = match stream.read(&mut self.buffer[filled..]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                other => other,
            };
            filled += match read {
                Ok(read) => read,
                Err(e) if filled == 0 && e.kind() != io::ErrorKind::WouldBlock => {
                    return Err(Broken::BeforeAnswer(e));
                }
                Err(e) => return Err(Broken::Answer(e)),
            };
            if head.is_none() {
                head =
                    find_end(&self.buffer[..filled]).map(|end| (end, parse(&self.buffer[..end])));
            }
            let Some((end, parsed)) = &head else { continue };
            let (length, close) = parsed.as_ref().map_err(|e| Broken::Answer(e.clone().into()))?;
            if filled >= end + length {
                let side = Side::of_body(&self.buffer[*end..filled]);
                self.open = (!close).then_some(stream);
                return side.ok_or_else(|| Broken::Answer(Bad("a strange body".into()).into()));
            }
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

enum Broken {
    /// No connection at all.
    Refused(io::Error),
    /// Closed before the first byte of an answer.
    BeforeAnswer(io::Error),
    /// Timed out, broke off, or not a 200.
    Answer(io::Error),
}

impl Broken {
    fn into_error(self) -> io::Error {
        match self {
            Self::Refused(e) | Self::BeforeAnswer(e) | Self::Answer(e) => e,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Bad(String);

impl From<Bad> for io::Error {
    fn from(bad: Bad) -> Self {
        Self::other(bad.0)
    }
}

/// The length of the body, and whether the server closes after it.
fn parse(head: &[u8]) -> Result<(usize, bool), Bad> {
    let head = std::str::from_utf8(head).map_err(|e| Bad(e.to_string()))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(Bad(format!("answered `{status}`")));
    }
    let (mut length, mut close) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.trim().eq_ignore_ascii_case("close");
        }
    }
    Ok((length.ok_or_else(|| Bad("an answer without content-length".into()))?, close))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that gives each connection the next script: replies in turn, then closes.
    fn scripted(scripts: Vec<Vec<&'static str>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for script in scripts {
                let (mut stream, _) = listener.accept().unwrap();
                for reply in script {
                    let mut request = [0; 1024];
                    assert!(stream.read(&mut request).unwrap() > 0);
                    stream.write_all(reply.as_bytes()).unwrap();
                }
            }
        });
        address
    }

    const A: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
    const B: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nbb";

    #[test]
    fn replies_tell_their_side_on_one_connection() {
        let mut client = Client::new(scripted(vec![vec![A, B]]));
        assert_eq!(client.get().unwrap(), Side::A);
        assert_eq!(client.get().unwrap(), Side::B);
        assert_eq!(client.raced, 0);
    }

    #[test]
    fn a_kept_connection_that_closed_is_a_race_and_a_fresh_one_a_failure() {
        let mut client = Client::new(scripted(vec![vec![A], vec![B], vec![]]));
        client.get().unwrap();
        assert_eq!(client.get().unwrap(), Side::B);
        assert_eq!(client.raced, 1);
        client.open = None;
        assert!(client.get().is_err());
        assert_eq!(client.raced, 1);
    }

    #[test]
    fn an_error_status_and_a_broken_body_are_failures() {
        let bad = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        let error = Client::new(scripted(vec![vec![bad]])).get().unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
        let short = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na";
        assert!(Client::new(scripted(vec![vec![A, short]])).get().is_ok());
        let mut client = Client::new(scripted(vec![vec![A, short], vec![A]]));
        client.get().unwrap();
        assert!(client.get().is_err(), "an answer that broke off is never repeated");
    }
}
