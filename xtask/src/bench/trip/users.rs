//! Users that come at a steady pace, whatever they get.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::bench::backend::find_end;

/// Connections that the requests take turns on.
const CONNECTIONS: u32 = 8;
const TIMEOUT: Duration = Duration::from_secs(10);

/// What users met.
#[derive(Debug, Clone, Default)]
pub(super) struct Met {
    pub(super) requests: u64,
    /// When each failed answer, or none, came.
    pub(super) failed: Vec<Instant>,
}

impl Met {
    /// From the first failed request to the last.
    pub(super) fn lasted(&self) -> Duration {
        match (self.failed.iter().min(), self.failed.iter().max()) {
            (Some(first), Some(last)) => *last - *first,
            _ => Duration::ZERO,
        }
    }
}

/// A steady load; it ends when dropped.
pub(super) struct Users {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Met>>,
}

impl Users {
    /// So many requests a second, evenly.
    pub(super) fn start(address: SocketAddr, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let period = Duration::from_secs(1) * CONNECTIONS / rate;
        let threads = (0..CONNECTIONS)
            .map(|index| {
                let (stop, first) = (stop.clone(), began + period * index / CONNECTIONS);
                thread::spawn(move || come(address, first, period, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    pub(super) fn finish(mut self) -> Outcome<Met> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Met::default();
        for thread in self.threads.drain(..) {
            let met = thread.join().map_err(|_| "a user panicked".to_owned())?;
            all.requests += met.requests;
            all.failed.extend(met.failed);
        }
        Ok(all)
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn come(address: SocketAddr, first: Instant, period: Duration, stop: &AtomicBool) -> Met {
    let (mut met, mut kept, mut due) = (Met::default(), None, first);
    while !stop.load(Ordering::SeqCst) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due += period;
        met.requests += 1;
        if !matches!(ask(&mut kept, address), Ok(200)) {
            met.failed.push(Instant::now());
        }
    }
    met
}

/// One GET on the kept connection, or on a new one; its status.
fn ask(kept: &mut Option<TcpStream>, address: SocketAddr) -> io::Result<u16> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream
        }
    };
    stream.write_all(b"GET / HTTP/1.1\r\nhost: bench.local\r\n\r\n")?;
    let (mut buffer, mut filled) = ([0_u8; 4096], 0);
    loop {
        match stream.read(&mut buffer[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
        let Some(end) = find_end(&buffer[..filled]) else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let length = |line: &str| line.strip_prefix("content-length:")?.trim().parse().ok();
        let length: usize = head.lines().find_map(length).unwrap_or(0);
        if filled >= end + length {
            if !head.contains("connection: close") {
                *kept = Some(stream);
            }
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            return status.ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
}
