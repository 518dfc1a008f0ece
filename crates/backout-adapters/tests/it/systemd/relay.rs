//! A bus that loses connections: everything goes through, until a certain word is said.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// When the connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The other end never hears the word.
    Before,
    /// It hears it, and its answer is lost.
    After,
}

/// Listens for as long as the test program runs.
pub struct Relay {
    pub address: String,
    cuts: Arc<AtomicU32>,
    done: Arc<AtomicU32>,
}

impl Relay {
    /// Cuts the first `cuts` connections on which `word` is said.
    pub fn start(folder: &Path, to: PathBuf, word: &'static str, cut: Cut, cuts: u32) -> Self {
        let path = folder.join("relay");
        let listener = UnixListener::bind(&path).unwrap();
        let (cuts, done) = (Arc::new(AtomicU32::new(cuts)), Arc::new(AtomicU32::new(0)));
        let (left, counted) = (Arc::clone(&cuts), Arc::clone(&done));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, bus) = (client.unwrap(), UnixStream::connect(&to).unwrap());
                let (back, forth) = (bus.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pump(back, forth, |_| None));
                let (left, counted) = (Arc::clone(&left), Arc::clone(&counted));
                std::thread::spawn(move || {
                    pump(client, bus, |bytes| {
                        let said = bytes.windows(word.len()).any(|part| part == word.as_bytes());
                        let take = |n: u32| n.checked_sub(1);
                        let mine = said
                            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
                        counted.fetch_add(u32::from(mine), Ordering::SeqCst);
                        mine.then_some(cut)
                    });
                });
            }
        });
        Self { address: format!("unix:path={}", path.display()), cuts, done }
    }

    /// Connections that were cut.
    pub fn cut(&self) -> u32 {
        self.done.load(Ordering::SeqCst)
    }

    /// From now on all goes through.
    pub fn heal(&self) {
        self.cuts.store(0, Ordering::SeqCst);
    }
}

fn pump(mut from: UnixStream, mut to: UnixStream, look: impl Fn(&[u8]) -> Option<Cut>) {
    let mut buffer = [0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let cut = look(&buffer[..n]);
        if cut != Some(Cut::Before) && to.write_all(&buffer[..n]).is_err() {
            break;
        }
        if cut.is_some() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
