//! The release that is deployed: well by its checks, and wrong as often as it is told.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::Outcome;
use crate::bench::backend::find_end;

/// Which of a release's requests fail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fails {
    /// Each with this probability.
    Share(f64),
    /// Only the one with this number.
    Once(u64),
}

impl Fails {
    /// As it stands on a command line.
    pub(super) fn word(self) -> String {
        match self {
            Self::Share(share) => format!("{share}"),
            Self::Once(number) => format!("once:{number}"),
        }
    }

    fn parse(word: &str) -> Option<Self> {
        match word.strip_prefix("once:") {
            Some(number) => number.parse().ok().map(Self::Once),
            None => word.parse().ok().map(Self::Share),
        }
    }

    /// Whether a request fails, as drawn from this seed.
    fn hits(self, number: u64, seed: u32) -> bool {
        match self {
            Self::Share(share) => uniform(number ^ u64::from(seed) << 32) < share,
            Self::Once(only) => number == only,
        }
    }
}

/// A number between 0 and 1 for each input (the finalizer of SplitMix64).
fn uniform(input: u64) -> f64 {
    let mut z = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}

/// `bench-release PORT VERSION FAILS`: serves until it is ended.
pub fn run(words: &[&str]) -> Outcome<()> {
    let usage = || "bench-release needs PORT VERSION FAILS".to_owned();
    let [port, version, fails] = words else { return Err(usage()) };
    let port: u16 = port.parse().map_err(|_| usage())?;
    let fails = Fails::parse(fails).ok_or_else(usage)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|e| format!("failed to listen on port {port}: {e}"))?;
    let (health, users) = (Arc::<[u8]>::from(health(version)), Arc::new(AtomicU64::new(0)));
    for stream in listener.incoming().flatten() {
        let (health, users) = (health.clone(), users.clone());
        let thread = thread::Builder::new().stack_size(128 * 1024);
        drop(thread.spawn(move || answer(stream, &health, &users, fails)));
    }
    Ok(())
}

fn reply(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn health(version: &str) -> Vec<u8> {
    reply("200 OK", &format!("{{\"status\":\"healthy\",\"version\":\"{version}\"}}"))
}

fn answer(mut stream: TcpStream, health: &[u8], users: &AtomicU64, fails: Fails) {
    let _ = stream.set_nodelay(true);
    let (mut buffer, mut filled) = ([0_u8; 16 * 1024], 0);
    let (good, bad) = (reply("200 OK", "good"), reply("500 Internal Server Error", "bad"));
    loop {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
        while let Some(end) = find_end(&buffer[..filled]) {
            let is_check = buffer.starts_with(b"GET /health");
            buffer.copy_within(end..filled, 0);
            filled -= end;
            let reply = match is_check {
                true => health,
                false
                    if fails
                        .hits(users.fetch_add(1, Ordering::Relaxed) + 1, std::process::id()) =>
                {
                    &bad
                }
                false => &good,
            };
            if stream.write_all(reply).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fails_as_often_as_it_is_told() {
        for fails in [Fails::Share(0.05), Fails::Share(0.005), Fails::Share(0.5)] {
            assert_eq!(Fails::parse(&fails.word()), Some(fails));
            let Fails::Share(share) = fails else { continue };
            let hits = (0..100_000).filter(|number| fails.hits(*number, 1)).count() as f64 / 1e5;
            assert!((hits - share).abs() < 0.01 * share.sqrt(), "{hits} instead of {share}");
        }
        assert_eq!(Fails::parse(&Fails::Once(7).word()), Some(Fails::Once(7)));
        let once = (0..1_000).filter(|number| Fails::Once(7).hits(*number, 1)).count();
        assert_eq!((once, Fails::Share(0.0).hits(1, 1), Fails::parse("often")), (1, false, None));
    }
}
