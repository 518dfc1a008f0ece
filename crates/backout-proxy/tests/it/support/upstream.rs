//! Releases: real hyper servers in the test's process, that can be killed.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

pub type Answer = Response<BoxBody<Bytes, hyper::Error>>;
type Future_ = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Future_ + Send + Sync>;

pub fn text(status: u16, text: impl Into<Bytes>) -> Answer {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed();
    Response::builder().status(status).body(body).unwrap()
}

/// A running release; dropping it closes its socket and all its connections.
pub struct Upstream {
    pub addr: SocketAddr,
    pub hits: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Answers every request with its name.
    pub async fn named(name: &'static str) -> Self {
        Self::start(move |_| async move { text(200, name) }).await
    }

    pub async fn start<F, R>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Answer> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0".parse().unwrap(), handler).await
    }

    pub async fn start_at<F, R>(addr: SocketAddr, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Answer> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        Self::raw_at(addr, move |stream, hits| {
            let handler = handler.clone();
            async move {
                let service = service_fn(move |request| {
                    hits.fetch_add(1, Ordering::SeqCst);
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            }
        })
        .await
    }

    /// Each connection is handled by hand.
    pub async fn raw<F, R>(handler: F) -> Self
    where
        F: Fn(TcpStream, Arc<AtomicU64>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::raw_at("127.0.0.1:0".parse().unwrap(), handler).await
    }

    async fn raw_at<F, R>(addr: SocketAddr, handler: F) -> Self
    where
        F: Fn(TcpStream, Arc<AtomicU64>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let hits = Arc::new(AtomicU64::new(0));
        let counted = hits.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = stream.set_nodelay(true);
                connections.spawn(handler(stream, counted.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { addr, hits, task }
    }

    /// Closes everything, as the kernel does for a process that was killed.
    pub async fn kill(self) -> SocketAddr {
        let addr = self.addr;
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
        addr
    }

    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a request without a body from a raw stream; false at its end.
pub async fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0_u8; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Answers `replies` requests on each connection as if it meant to keep it, then closes without a word.
pub async fn closes_silently_after(replies: usize) -> Upstream {
    Upstream::raw(move |mut stream, hits| async move {
        for _ in 0..replies {
            if !read_head(&mut stream).await {
                return;
            }
            hits.fetch_add(1, Ordering::SeqCst);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    })
    .await
}

/// An address where nobody listens.
pub async fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
