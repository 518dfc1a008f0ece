//! Requests as users make them, and a steady load of them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body, trimmed.
    pub body: String,
}

/// One request over a connection of its own.
///
/// # Errors
/// When there is no answer.
pub fn get(port: u16, path: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut_off)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(cut_off)?;
    Ok(Answer { status, body: body.trim().to_owned() })
}

fn cut_off() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "no whole answer")
}

/// Users that ask all the time.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

/// What they got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Good answers by body, which is the version.
    pub served: BTreeMap<String, u64>,
    /// Answers with an error, and no answer at all, in words.
    pub failed: BTreeMap<String, u64>,
}

impl Tally {
    /// All requests.
    pub fn total(&self) -> u64 {
        self.served.values().sum::<u64>() + self.failures()
    }

    /// Those that went wrong.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    fn add(&mut self, other: &Tally) {
        for (mine, theirs) in [(&mut self.served, &other.served), (&mut self.failed, &other.failed)]
        {
            for (key, count) in theirs {
                *mine.entry(key.clone()).or_default() += count;
            }
        }
    }
}

impl Load {
    /// Two users, some hundred requests a second at most.
    pub fn on(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..2)
            .map(|_| {
                let stop = stop.clone();
                std::thread::spawn(move || ask(port, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Ends it.
    pub fn stop(mut self) -> Tally {
        self.end()
    }

    fn end(&mut self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Tally::default();
        for thread in self.threads.drain(..) {
            all.add(&thread.join().unwrap());
        }
        all
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One user who asks again and again, and notes each time that somebody else answers.
pub struct Visitor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Visitor {
    /// Begins to ask.
    pub fn on(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut seen: Vec<String> = Vec::new();
            while !until.load(Ordering::SeqCst) {
                let said = match get(port, "/") {
                    Ok(answer) if answer.status == 200 => answer.body,
                    Ok(answer) => format!("{} {}", answer.status, answer.body),
                    Err(error) => error.to_string(),
                };
                if seen.last() != Some(&said) {
                    seen.push(said);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            seen
        });
        Self { stop, thread: Some(thread) }
    }

    /// Who answered, one after the other; errors in words.
    pub fn stop(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().map(|thread| thread.join().unwrap()).unwrap_or_default()
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn ask(port: u16, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::SeqCst) {
        match get(port, "/") {
            Ok(answer) if answer.status == 200 => {
                *tally.served.entry(answer.body).or_default() += 1;
            }
            Ok(answer) => {
                let words = format!("{} {}", answer.status, answer.body);
                *tally.failed.entry(words).or_default() += 1;
            }
            Err(error) => *tally.failed.entry(error.to_string()).or_default() += 1,
        }
        std::thread::sleep(Duration::from_millis(8));
    }
    tally
}
