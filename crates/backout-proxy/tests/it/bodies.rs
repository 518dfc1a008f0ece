//! Bodies stream both ways.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use crate::support::{
    Proxy, client, put,
    upstream::{Answer, Upstream, text},
};
use backout_proxy::wire::SideName;

const UPLOAD_BYTES: usize = 64 << 20;

fn block() -> Bytes {
    (0..1_u32 << 16).map(|i| (i * 7 % 251) as u8).collect::<Vec<_>>().into()
}

/// Says how many bytes came, and whether they are the block over and over.
async fn check_upload(request: Request<Incoming>) -> Answer {
    let (block, mut bytes, mut same) = (block(), 0, true);
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return text(400, "the upload broke off") };
        let data = frame.into_data().unwrap_or_default();
        let mut data = &data[..];
        while !data.is_empty() {
            let wanted = &block[bytes % block.len()..];
            let length = wanted.len().min(data.len());
            same &= data[..length] == wanted[..length];
            bytes += length;
            data = &data[length..];
        }
    }
    text(200, format!("{bytes} {same}"))
}

/// Memory of the process in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn upload(addr: std::net::SocketAddr, chunked: bool) -> String {
    let block = block();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let length = if chunked {
        "transfer-encoding: chunked".to_owned()
    } else {
        format!("content-length: {UPLOAD_BYTES}")
    };
    let head =
        format!("PUT /big HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n{length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..UPLOAD_BYTES / block.len() {
        if chunked {
            stream.write_all(format!("{:x}\r\n", block.len()).as_bytes()).await.unwrap();
        }
        stream.write_all(&block).await.unwrap();
        if chunked {
            stream.write_all(b"\r\n").await.unwrap();
        }
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_uploads_pass_through_whole_and_are_not_held() {
    let upstream = Upstream::start(check_upload).await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(upstream.addr, None)).await;
    let wanted = format!("{UPLOAD_BYTES} true");
    assert_eq!(upload(addr, false).await, wanted);
    assert_eq!(upload(addr, true).await, wanted);
    let kib = resident_kib(proxy.admin.greeting().pid);
    assert!(kib < 32 << 10, "{kib} KiB for an upload of 64 MiB");
}

/// A body whose chunks come through a channel.
struct Chunks(mpsc::Receiver<&'static str>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|chunk| Some(Ok(Frame::data(Bytes::from_static(chunk?.as_bytes())))))
    }
}

#[tokio::test]
async fn a_slow_chunked_answer_arrives_chunk_by_chunk() {
    let (chunks, receive) = mpsc::channel(1);
    let receive = std::sync::Mutex::new(Some(receive));
    let upstream = Upstream::start(move |_| {
        let receive = receive.lock().unwrap().take().unwrap();
        async move { Response::new(Chunks(receive).map_err(|never| match never {}).boxed()) }
    })
    .await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(upstream.addr, None)).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    for chunk in ["first", "second", "third"] {
        // The next chunk is only made once the one before has arrived.
        chunks.send(chunk).await.unwrap();
        while !seen.contains(chunk) {
            let mut buffer = [0_u8; 1024];
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }
    let stats = proxy.side(SideName::A).await;
    assert_eq!((stats.in_flight, stats.answers[1], stats.last_answer_at), (1, 1, None));
    drop(chunks);
    while !seen.ends_with("0\r\n\r\n") {
        let mut buffer = [0_u8; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    let stats = proxy.side_when(SideName::A, |stats| stats.in_flight == 0).await;
    assert!(stats.last_answer_at.is_some());
    assert_eq!((stats.failed, stats.client_left), (0, 0));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failure_of_the_release() {
    let upstream = Upstream::raw(|mut stream, _| async move {
        crate::support::upstream::read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort").await;
    })
    .await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(upstream.addr, None)).await;
    let answer = client::raw(addr, b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
    // The client sees the connection close early; whether the part arrived before that is chance.
    assert!(answer.is_empty() || answer.contains("content-length: 100\r\n"), "{answer}");
    let stats = proxy.side_when(SideName::A, |stats| stats.failed > 0).await;
    assert_eq!((stats.failed, stats.broken, stats.answers[1], stats.trials()), (1, 1, 1, 1));
}

#[tokio::test]
async fn answers_without_bodies_keep_the_connection() {
    let upstream = Upstream::start(|request: Request<Incoming>| async move {
        match request.uri().path() {
            "/204" => text(204, ""),
            "/304" => text(304, ""),
            _ => text(200, "body"),
        }
    })
    .await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(upstream.addr, None)).await;
    let mut conn = client::Conn::open(addr).await;
    for path in ["/204", "/304", "/", "/204", "/"] {
        let got = conn.get(path).await;
        assert_eq!(got.body.len(), if path == "/" { 4 } else { 0 });
    }
    let head = conn.request(hyper::Method::HEAD, "/", "").await.unwrap();
    assert_eq!((head.headers["content-length"].to_str().unwrap(), head.body.len()), ("4", 0));
    assert_eq!(conn.get("/").await.text(), "body");
    assert_eq!(proxy.side(SideName::A).await.failed, 0);
}
