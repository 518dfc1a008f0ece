//! A web service that only says which side it is, on keep-alive connections.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::Outcome;

/// One of two sides, as the first byte of every reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(super) fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }

    pub(super) fn of_body(body: &[u8]) -> Option<Self> {
        match body.first()? {
            b'a' => Some(Self::A),
            b'b' => Some(Self::B),
            _ => None,
        }
    }
}

const BODY_BYTES: usize = 128;

/// Two backends; they end with the program.
pub(super) struct Backends {
    pub(super) a: SocketAddr,
    pub(super) b: SocketAddr,
}

impl Backends {
    pub(super) fn start() -> Outcome<Self> {
        Ok(Self { a: serve(Side::A)?, b: serve(Side::B)? })
    }

    pub(super) fn of(&self, side: Side) -> SocketAddr {
        match side {
            Side::A => self.a,
            Side::B => self.b,
        }
    }
}

fn serve(side: Side) -> Outcome<SocketAddr> {
    let failed = |e: std::io::Error| format!("failed to start a backend: {e}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let body = side.letter().to_string().repeat(BODY_BYTES);
    let reply =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY_BYTES}\r\n\r\n{body}").into_bytes();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let reply = reply.clone();
            let thread = thread::Builder::new().stack_size(128 * 1024);
            // Without a thread the connection closes, and the load counts a failure.
            drop(thread.spawn(move || answer(stream, &reply)));
        }
    });
    Ok(address)
}

/// Answers until the peer closes; requests have no body.
fn answer(mut stream: TcpStream, reply: &[u8]) {
    let _ = stream.set_nodelay(true);
    let (mut buffer, mut filled) = ([0_u8; 16 * 1024], 0);
    loop {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
        while let Some(end) = find_end(&buffer[..filled]) {
            buffer.copy_within(end..filled, 0);
            filled -= end;
            if stream.write_all(reply).is_err() {
                return;
            }
        }
    }
}

/// Where the head of a message ends.
pub(super) fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}
