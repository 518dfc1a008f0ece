//! A proxy between a ledger and its server that cuts, or falls silent, at a chosen message.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{PostgresServer, USER};

const SSL_REQUEST: [u8; 4] = [4, 210, 22, 47];

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The message does not reach the server.
    Before,
    /// It does, and the connection is gone at once.
    AtOnce,
    /// It does, and the server answers, but nobody hears it.
    AnswerLost,
    /// It and everything after it is lost, and nobody says so.
    Silence,
    /// It gets there; then as before.
    AnswerSilent,
}

impl Cut {
    /// Those that end the connection.
    pub const ALL: [Self; 3] = [Self::Before, Self::AtOnce, Self::AnswerLost];
}

#[derive(Debug, Default)]
struct Plan {
    /// Messages that still pass, and what happens to the next one.
    armed: Option<(u32, Cut)>,
    fired: bool,
    seen: u32,
    /// Messages after which the server answers and waits: it knows then that nothing is on its way.
    rests: Vec<u32>,
}

#[derive(Default)]
struct Shared {
    plan: Mutex<Plan>,
    hole: AtomicBool,
    ended: AtomicBool,
}

impl Shared {
    fn next(&self, is_answered: bool) -> Option<Cut> {
        let mut plan = self.plan.lock().unwrap();
        plan.seen += 1;
        if is_answered {
            let seen = plan.seen;
            plan.rests.push(seen);
        }
        let (left, cut) = plan.armed.as_mut()?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let cut = *cut;
        plan.armed = None;
        plan.fired = true;
        if cut == Cut::Silence {
            self.hole.store(true, Ordering::SeqCst);
        }
        Some(cut)
    }

    /// In the hole nothing moves; what was in it is lost.
    fn swallows(&self) -> bool {
        let mut lost = false;
        while self.hole.load(Ordering::SeqCst) && !self.ended.load(Ordering::SeqCst) {
            lost = true;
            std::thread::sleep(Duration::from_millis(5));
        }
        lost
    }
}

/// A proxy with a socket of its own.
pub struct Proxy {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
}

impl Proxy {
    /// In front of a server.
    ///
    /// # Panics
    /// When it can't listen.
    #[must_use]
    pub fn new(server: &PostgresServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket(folder.path())).unwrap();
        let shared = Arc::new(Shared::default());
        let (all, to) = (shared.clone(), server.socket_file());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if all.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, to) = (all.clone(), to.clone());
                std::thread::spawn(move || serve(client.unwrap(), &to, &shared));
            }
        });
        Self { folder, shared }
    }

    /// The address of a database through it.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let folder = self.folder.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://{USER}@{folder}/{database}")
    }

    /// Lets so many messages of clients pass, then cuts.
    pub fn arm(&self, pass: u32, cut: Cut) {
        *self.shared.plan.lock().unwrap() = Plan { armed: Some((pass, cut)), ..Plan::default() };
    }

    /// Cuts no more; whether it has.
    #[must_use]
    pub fn disarm(&self) -> bool {
        std::mem::take(&mut *self.shared.plan.lock().unwrap()).fired
    }

    /// Counts messages from now on.
    pub fn count(&self) {
        *self.shared.plan.lock().unwrap() = Plan::default();
    }

    /// How many there were.
    #[must_use]
    pub fn counted(&self) -> u32 {
        self.shared.plan.lock().unwrap().seen
    }

    /// How many there were each time the server was left waiting for more, after an answer.
    #[must_use]
    pub fn rests(&self) -> Vec<u32> {
        self.shared.plan.lock().unwrap().rests.clone()
    }

    /// Forwards nothing from now on, and says nothing about it.
    pub fn fall_silent(&self) {
        self.shared.hole.store(true, Ordering::SeqCst);
    }

    /// Forwards again; connections that were in the hole are gone.
    pub fn come_back(&self) {
        self.shared.hole.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(socket(self.folder.path()));
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join(".s.PGSQL.5432")
}

fn serve(client: UnixStream, to: &Path, shared: &Arc<Shared>) {
    if shared.swallows() {
        return;
    }
    let Ok(server) = UnixStream::connect(to) else { return };
    let lose_answer = Arc::new(AtomicBool::new(false));
    let answers = {
        let (server, client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let (shared, lose) = (shared.clone(), lose_answer.clone());
        std::thread::spawn(move || forward_answers(server, client, &shared, &lose))
    };
    forward_messages(&client, &server, shared, &lose_answer);
    if lose_answer.load(Ordering::SeqCst) {
        let _ = answers.join();
    }
    end(&client, &server);
}

fn end(client: &UnixStream, server: &UnixStream) {
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

/// Message by message, until the end or the cut.
fn forward_messages(
    mut client: &UnixStream,
    mut server: &UnixStream,
    shared: &Shared,
    lose_answer: &AtomicBool,
) {
    let (mut buffer, mut chunk, mut begun) = (Vec::new(), [0; 65_536], false);
    loop {
        while let Some(length) = whole_message(&buffer, begun) {
            let message: Vec<u8> = buffer.drain(..length).collect();
            // Who asks whether there is encryption begins after that.
            begun = message.get(4..8) != Some(&SSL_REQUEST) || begun;
            // Only these are answered by themselves.
            let is_answered = matches!(message.first(), Some(b'Q' | b'S'));
            let cut = shared.next(is_answered);
            if cut == Some(Cut::Before) || shared.swallows() {
                return;
            }
            if cut == Some(Cut::AnswerLost) && is_answered {
                lose_answer.store(true, Ordering::SeqCst);
            }
            if cut == Some(Cut::AnswerSilent) {
                shared.hole.store(true, Ordering::SeqCst);
            }
            if server.write_all(&message).is_err()
                || cut.is_some_and(|cut| cut != Cut::AnswerSilent)
            {
                return;
            }
        }
        match client.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(count) => buffer.extend_from_slice(&chunk[..count]),
        }
    }
}

/// The first message has no type.
fn whole_message(buffer: &[u8], begun: bool) -> Option<usize> {
    let at = usize::from(begun);
    let length = buffer.get(at..at + 4)?;
    let whole = at + u32::from_be_bytes(length.try_into().unwrap()) as usize;
    (buffer.len() >= whole).then_some(whole)
}

fn forward_answers(
    mut server: UnixStream,
    mut client: UnixStream,
    shared: &Shared,
    lose_answer: &AtomicBool,
) {
    let mut chunk = [0; 65_536];
    loop {
        let count = match server.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        if lose_answer.load(Ordering::SeqCst) {
            // The server is ready for the next: it has done what it was asked.
            if matches!(&chunk[..count], [.., b'Z', 0, 0, 0, 5, _]) {
                break;
            }
            continue;
        }
        if shared.swallows() || client.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    end(&client, &server);
}
