//! Finding a free port on this machine.

use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which the kernel takes ports of outgoing connections, so that a program that is
/// restarted finds its port free again.
const RANGE: std::ops::Range<u16> = 20_000..32_768;
const TRIES: u32 = 64;

/// A port on which nothing listens and that is none of `taken`.
///
/// # Errors
/// When no port can be had at all, with why.
pub fn free_port(taken: &[u16]) -> Result<u16, String> {
    let random = (0..TRIES)
        .filter_map(|_| random_port())
        .find(|port| !taken.contains(port) && is_free_port(*port));
    random.map_or_else(|| any_free_port(taken), Ok)
}

/// Whether nothing listens on a port of this machine.
#[must_use]
pub fn is_free_port(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn random_port() -> Option<u16> {
    let mut bytes = [0_u8; 2];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).ok()?;
    Some(RANGE.start + u16::from_le_bytes(bytes) % (RANGE.end - RANGE.start))
}

fn any_free_port(taken: &[u16]) -> Result<u16, String> {
    for _ in 0..TRIES {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| socket.local_addr())
            .map(|a| a.port());
        match port {
            Ok(port) if !taken.contains(&port) => return Ok(port),
            Ok(_) => {}
            Err(e) => return Err(format!("failed to find a free port: {e}")),
        }
    }
    Err("failed to find a free port: all that were tried belong to other slots".to_owned())
}
