//! Upgraded connections: echoed, tracked, drained and cut.

use std::{net::SocketAddr, time::Duration};

use backout_proxy::wire::{PutArgs, SideName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    PATIENCE, Proxy, ROUTE, holder, put,
    upstream::{Upstream, read_head},
    weights,
};

/// Switches protocols, greets in the same packet and echoes.
async fn echo_upstream() -> Upstream {
    Upstream::raw(|mut stream, _| async move {
        if !read_head(&mut stream).await {
            return;
        }
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello ";
        let _ = stream.write_all(answer).await;
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

async fn open(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // The first bytes of the new protocol come together with the request.
    let request =
        b"GET /ws HTTP/1.1\r\nhost: shop.test\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\nworld";
    stream.write_all(request).await.unwrap();
    let mut seen = String::new();
    while !seen.ends_with("hello world") {
        let mut buffer = [0_u8; 512];
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(seen.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{seen}");
    assert!(seen.contains("upgrade: echo\r\n"), "{seen}");
    stream
}

async fn echoes(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut back = vec![0_u8; text.len()];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, text.as_bytes());
}

#[tokio::test]
async fn a_tunnel_outlives_a_switch_is_drained_and_then_cut() {
    let (echo, next) = (echo_upstream().await, Upstream::named("next").await);
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(echo.addr, Some(next.addr))).await;
    let (mut first, mut second) = (open(addr).await, open(addr).await);
    echoes(&mut first, "before").await;
    proxy.put(PutArgs { weights: weights(0, 100), ..put(echo.addr, Some(next.addr)) }).await;
    echoes(&mut first, "after").await;
    let stats = proxy.side(SideName::A).await;
    assert_eq!((stats.tunnels, stats.in_flight, stats.answers[0]), (2, 2, 2));

    // One client leaves by itself; the drain notices and goes on waiting for the other.
    first.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, first.read_to_end(&mut rest)).await.unwrap().unwrap();
    proxy.side_when(SideName::A, |stats| stats.tunnels == 1).await;
    let drain =
        |cut| proxy.admin.drain(ROUTE, SideName::A, holder(1), Duration::from_millis(200), cut);
    assert_eq!(drain(false).await.unwrap().remaining, 1);
    echoes(&mut second, "still").await;
    assert_eq!(drain(true).await.unwrap().remaining, 0);
    let mut rest = Vec::new();
    // Closed, or reset: but at once.
    let _ = timeout(PATIENCE, second.read_to_end(&mut rest)).await.expect("the tunnel is cut");
    let stats = proxy.side(SideName::A).await;
    assert_eq!((stats.tunnels, stats.in_flight, stats.failed, stats.client_left), (0, 0, 0, 0));
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_a_bad_answer() {
    let echo = echo_upstream().await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(echo.addr, None)).await;
    let got = crate::support::client::get(addr, "/").await;
    assert_eq!((got.status.as_u16(), got.reason()), (502, "upstream-invalid"));
    assert_eq!(proxy.side(SideName::A).await.no_answer, 1);
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let plain = Upstream::named("plain").await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(plain.addr, None)).await;
    let request = b"GET /ws HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade, close\r\nupgrade: echo\r\n\r\n";
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut seen = String::new();
    while !seen.ends_with("plain") {
        let mut buffer = [0_u8; 512];
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(seen.starts_with("HTTP/1.1 200 OK\r\n"), "{seen}");
}
