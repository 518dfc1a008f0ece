//! Load on one address from many keep-alive connections, with every reply kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::backend::Side;
use super::client::Client;
use crate::Outcome;

/// One whole reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    pub(super) sent: Instant,
    pub(super) done: Instant,
    pub(super) side: Side,
}

/// What the load saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) replies: Vec<Reply>,
    pub(super) failed: u64,
    pub(super) raced: u64,
    /// Why the first one failed.
    pub(super) first_failure: Option<String>,
}

impl Seen {
    pub(super) fn absorb(&mut self, other: Self) {
        self.replies.extend(other.replies);
        self.failed += other.failed;
        self.raced += other.raced;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    fn ask(&mut self, client: &mut Client) {
        let sent = Instant::now();
        match client.get() {
            Ok(side) => self.replies.push(Reply { sent, done: Instant::now(), side }),
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// Load that runs until it is stopped, at a steady rate.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// `rate` requests a second over all connections; a slow answer delays only its own connection.
    pub(super) fn start(address: SocketAddr, connections: u32, rate: u32) -> Outcome<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let pause = Duration::from_secs(1) * connections / rate;
        let threads = spawn(connections, |number| {
            let stop = Arc::clone(&stop);
            move || {
                let mut client = Client::new(address);
                let mut seen = Seen::default();
                // Spread over the pause, so that the connections do not all send at once.
                let mut next = Instant::now() + pause * number / connections;
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                    next += pause;
                    seen.ask(&mut client);
                }
                Seen { raced: client.raced, ..seen }
            }
        })?;
        Ok(Self { stop, threads })
    }

    pub(super) fn finish(self) -> Outcome<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        join(self.threads)
    }
}

/// A fixed number of requests, each connection sending as soon as it has its answer.
pub(super) fn blast(address: SocketAddr, connections: u32, requests: u64) -> Outcome<Seen> {
    let taken = Arc::new(AtomicU64::new(0));
    let threads = spawn(connections, |_| {
        let taken = Arc::clone(&taken);
        move || {
            let mut client = Client::new(address);
            let mut seen = Seen::default();
            while taken.fetch_add(1, Ordering::Relaxed) < requests {
                seen.ask(&mut client);
            }
            Seen { raced: client.raced, ..seen }
        }
    })?;
    join(threads)
}

fn spawn<F>(connections: u32, mut work: impl FnMut(u32) -> F) -> Outcome<Vec<JoinHandle<Seen>>>
where
    F: FnOnce() -> Seen + Send + 'static,
{
    (0..connections)
        .map(|number| thread::Builder::new().stack_size(128 * 1024).spawn(work(number)))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("failed to start a thread of the load: {e}"))
}

fn join(threads: Vec<JoinHandle<Seen>>) -> Outcome<Seen> {
    let mut all = Seen::default();
    for thread in threads {
        all.absorb(thread.join().map_err(|_| "a thread of the load panicked".to_owned())?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::backend::Backends;
    use super::*;

    #[test]
    fn a_blast_sends_exactly_what_was_asked() {
        let backends = Backends::start().unwrap();
        let seen = blast(backends.b, 4, 100).unwrap();
        assert_eq!((seen.replies.len(), seen.failed, seen.raced), (100, 0, 0));
        assert!(seen.replies.iter().all(|reply| reply.side == Side::B && reply.done >= reply.sent));
    }

    #[test]
    fn a_load_counts_failures_where_nobody_listens() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let seen = blast(free, 2, 10).unwrap();
        assert_eq!((seen.replies.len(), seen.failed), (0, 10));
        assert!(seen.first_failure.is_some());
    }
}
