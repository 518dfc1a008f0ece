//! Clients of the proxy: raw bytes, single requests and keep-alive load.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::PATIENCE;

/// An answer as read.
#[derive(Debug)]
pub struct Got {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn reason(&self) -> &str {
        self.headers.get("x-backout").map_or("", |reason| reason.to_str().unwrap())
    }
}

/// A kept-alive connection.
pub struct Conn(SendRequest<Full<Bytes>>);

impl Conn {
    pub async fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<Got, hyper::Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "shop.test")
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        self.send(request).await
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Got, hyper::Error> {
        timeout(PATIENCE, async {
            self.0.ready().await?;
            let response = self.0.send_request(request).await?;
            let (parts, body) = response.into_parts();
            Ok(Got {
                status: parts.status,
                headers: parts.headers,
                body: body.collect().await?.to_bytes(),
            })
        })
        .await
        .expect("an answer in time")
    }

    pub async fn get(&mut self, path: &str) -> Got {
        self.request(Method::GET, path, "").await.unwrap()
    }
}

/// A client that keeps its cookie, on a connection of its own.
pub struct Browser {
    conn: Conn,
    pub cookie: Option<String>,
}

impl Browser {
    pub async fn open(addr: SocketAddr) -> Self {
        Self { conn: Conn::open(addr).await, cookie: None }
    }

    pub async fn get(&mut self, path: &str) -> Got {
        let mut request = Request::builder().uri(path).header("host", "shop.test");
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let got = self.conn.send(request.body(Full::default()).unwrap()).await.unwrap();
        if let Some(cookie) = got.headers.get("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            self.cookie = Some(pair.to_owned());
        }
        got
    }
}

/// One GET on its own connection.
pub async fn get(addr: SocketAddr, path: &str) -> Got {
    Conn::open(addr).await.get(path).await
}

/// One POST on its own connection.
pub async fn post(addr: SocketAddr, path: &str, body: &str) -> Got {
    Conn::open(addr).await.request(Method::POST, path, body).await.unwrap()
}

/// Sends bytes and reads until the proxy closes.
pub async fn raw(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // The proxy may answer and close before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the proxy closes");
    String::from_utf8_lossy(&answer).into_owned()
}

/// What a load has seen: answers by body for 200, by status and reason for all else.
pub type Seen = BTreeMap<String, u64>;

/// Keep-alive load that runs until told.
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Seen>,
}

impl Load {
    pub fn start(addr: SocketAddr, connections: usize) -> Self {
        Self::of(&Method::GET, addr, connections)
    }

    pub fn of(method: &Method, addr: SocketAddr, connections: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(client(method.clone(), addr, stop.clone()));
        }
        Self { stop, tasks }
    }

    pub async fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Seen::new();
        while let Some(seen) = self.tasks.join_next().await {
            for (what, count) in seen.unwrap() {
                *all.entry(what).or_default() += count;
            }
        }
        all
    }
}

async fn client(method: Method, addr: SocketAddr, stop: Arc<AtomicBool>) -> Seen {
    let body = if method == Method::GET { "" } else { "body" };
    let mut seen = Seen::new();
    let mut conn = Conn::open(addr).await;
    while !stop.load(Ordering::SeqCst) {
        let what = match conn.request(method.clone(), "/", body).await {
            Ok(got) if got.status == StatusCode::OK => got.text(),
            Ok(got) => format!("{} {}", got.status.as_u16(), got.reason()),
            Err(error) => {
                conn = Conn::open(addr).await;
                format!("broken: {error}")
            }
        };
        *seen.entry(what).or_default() += 1;
    }
    seen
}
