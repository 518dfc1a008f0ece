//! A link that can be cut, one into which everything falls, and one that only the client loses.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens where no more bytes pass.
#[derive(Clone, Copy, Default)]
enum Then {
    #[default]
    Cut,
    Orphan,
}

/// Both ends of a connection.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// The server is not told that the client is gone.
    is_orphan: Arc<AtomicBool>,
}

#[derive(Default)]
struct Shared {
    /// Bytes that still pass, both directions together, and what happens then.
    left: Mutex<Option<(u64, Then)>>,
    passed: AtomicU64,
    /// Connections are closed at once.
    down: AtomicBool,
    /// Nothing moves, and nobody says so.
    hole: AtomicBool,
    ended: AtomicBool,
    open: Mutex<Vec<Connection>>,
}

impl Shared {
    fn close_all(&self) {
        for Connection { client, server, .. } in self.open.lock().unwrap().drain(..) {
            let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
        }
    }

    fn cut(&self) {
        self.down.store(true, Ordering::SeqCst);
        self.close_all();
    }

    fn orphan(&self) {
        *self.left.lock().unwrap() = None;
        for Connection { client, is_orphan, .. } in self.open.lock().unwrap().iter() {
            is_orphan.store(true, Ordering::SeqCst);
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// How many of so many bytes pass, and what happens where that is not all.
    fn admit(&self, count: usize) -> (usize, Then) {
        let mut left = self.left.lock().unwrap();
        let (passes, then) = match left.as_mut() {
            Some((left, then)) => {
                let passes = (*left).min(count as u64);
                *left -= passes;
                (usize::try_from(passes).unwrap(), *then)
            }
            None => (count, Then::default()),
        };
        self.passed.fetch_add(passes as u64, Ordering::SeqCst);
        (passes, then)
    }

    fn waits_in_hole(&self) {
        while self.hole.load(Ordering::SeqCst) && !self.ended.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A relay with a port of its own.
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

impl Relay {
    /// In front of a port of this machine.
    ///
    /// # Panics
    /// When it can't listen.
    #[must_use]
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let all = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if all.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, Ok(client)) = (all.clone(), client) else { continue };
                if !shared.down.load(Ordering::SeqCst) {
                    std::thread::spawn(move || serve(&client, server, &shared));
                }
            }
        });
        Self { port, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections, and every new one at once.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Lets so many more bytes pass, both directions together; then cuts.
    ///
    /// # Panics
    /// Never.
    pub fn cut_after(&self, bytes: u64) {
        *self.shared.left.lock().unwrap() = Some((bytes, Then::Cut));
    }

    /// Lets so many more bytes pass, both directions together; then the clients of all connections lose them, and the
    /// servers are not told: their ends stay open and hear nothing more, as after a partition that the client did not
    /// live through. New connections pass.
    ///
    /// # Panics
    /// Never.
    pub fn orphan_after(&self, bytes: u64) {
        *self.shared.left.lock().unwrap() = Some((bytes, Then::Orphan));
    }

    /// Whether it was cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.shared.down.load(Ordering::SeqCst)
    }

    /// Forwards nothing from now on, and says nothing about it.
    pub fn swallow(&self) {
        self.shared.hole.store(true, Ordering::SeqCst);
    }

    /// New connections pass again; what fell into the hole is gone, and servers that heard nothing are told.
    ///
    /// # Panics
    /// Never.
    pub fn restore(&self) {
        *self.shared.left.lock().unwrap() = None;
        self.shared.close_all();
        self.shared.hole.store(false, Ordering::SeqCst);
        self.shared.down.store(false, Ordering::SeqCst);
    }

    /// How many bytes have passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.close_all();
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn serve(client: &TcpStream, server: u16, shared: &Arc<Shared>) {
    shared.waits_in_hole();
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let clone = |stream: &TcpStream| stream.try_clone().unwrap();
    let is_orphan = Arc::<AtomicBool>::default();
    shared.open.lock().unwrap().push(Connection {
        client: clone(client),
        server: clone(&server),
        is_orphan: is_orphan.clone(),
    });
    let back = {
        let (server, client) = (clone(&server), clone(client));
        let (shared, is_orphan) = (shared.clone(), is_orphan.clone());
        std::thread::spawn(move || forward(server, client, &shared, &is_orphan))
    };
    forward(clone(client), clone(&server), shared, &is_orphan);
    let _ = back.join();
}

fn forward(mut from: TcpStream, mut to: TcpStream, shared: &Shared, is_orphan: &AtomicBool) {
    let mut chunk = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        shared.waits_in_hole();
        if is_orphan.load(Ordering::SeqCst) {
            break;
        }
        let (passes, then) = shared.admit(count);
        if to.write_all(&chunk[..passes]).is_err() {
            break;
        }
        if passes < count {
            match then {
                Then::Cut => shared.cut(),
                Then::Orphan => shared.orphan(),
            }
            break;
        }
    }
    // What `Shared` still holds of an orphan keeps the server's end open.
    if !is_orphan.load(Ordering::SeqCst) {
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
