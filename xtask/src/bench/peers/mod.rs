//! The proxies under measurement, each with two backends behind one address.

mod haproxy;
mod nginx;
mod ours;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::backend::Side;
use super::client::Client;
use super::process::Server;
use crate::Outcome;

pub(super) use haproxy::Haproxy;
pub(super) use nginx::Nginx;
pub(super) use ours::Ours;

const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A running proxy that gives all its traffic to one side.
pub(super) trait Proxy {
    fn name(&self) -> &'static str;
    fn address(&self) -> SocketAddr;
    /// Returns when the proxy has acknowledged, as its own tools do.
    fn switch_to(&mut self, side: Side) -> Outcome<()>;
    fn server(&self) -> &Server;
}

/// Waits until side A answers through the proxy.
fn wait_until_serving(server: &mut Server, address: SocketAddr) -> Outcome<()> {
    server.wait_for(|| Client::new(address).get().ok().filter(|side| *side == Side::A).map(drop))
}

/// One command on a fresh connection, as a command-line client would send it.
fn ask(socket: &Path, command: &str, end: impl Fn(&[u8]) -> bool) -> Outcome<String> {
    let failed = |e: std::io::Error| format!("failed to command {}: {e}", socket.display());
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(ADMIN_TIMEOUT)).map_err(failed)?;
    stream.set_write_timeout(Some(ADMIN_TIMEOUT)).map_err(failed)?;
    stream.write_all(command.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    let mut stream = stream.take(ANSWER_BYTES_MAX);
    let mut buffer = [0; 4096];
    while !end(&answer) {
        match stream.read(&mut buffer).map_err(failed)? {
            0 => break,
            read => answer.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8(answer).map_err(|e| format!("failed to read an answer: {e}"))
}
