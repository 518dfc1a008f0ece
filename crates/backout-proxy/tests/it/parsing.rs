//! Requests that must not reach a release.

use std::net::SocketAddr;

use crate::support::{Proxy, client::raw, put, upstream::Upstream};

async fn status(addr: SocketAddr, request: &str) -> (u16, String) {
    let answer = raw(addr, request.as_bytes()).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status in {answer:?}")), answer)
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let upstream = Upstream::named("reached").await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(upstream.addr, None)).await;
    let end = "connection: close\r\n\r\n";
    for (wanted, request) in [
        (400, format!("GET / HTTP/1.1\r\nhost: a.test\r\nhost: b.test\r\n{end}")),
        (400, format!("GET / HTTP/1.1\r\nhost: a.test\r\nhost: a.test\r\n{end}")),
        (400, format!("GET / HTTP/1.1\r\n{end}")),
        (400, format!("GET / HTTP/1.1\r\nhost: \r\n{end}")),
        (400, format!("GET / HTTP/1.1\r\nhost: a.test, b.test\r\n{end}")),
        (400, format!("GET / HTTP/1.1\r\nhost: user@a.test/path\r\n{end}")),
        (400, format!("GET /\r\nhost: a.test\r\n{end}")),
        (400, format!("GET / HTTP/1.1\r\nhost: a.test\r\nbad header: x\r\n{end}")),
        (400, format!("GET / HTTP/1.1\r\nhost : a.test\r\n{end}")),
        (
            400,
            format!(
                "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\ncontent-length: 4\r\n{end}abcd"
            ),
        ),
        (400, format!("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: x\r\n{end}")),
        (400, format!("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: -1\r\n{end}")),
        (400, format!("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: +3\r\n{end}abc")),
        (400, format!("POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: gzip\r\n{end}")),
        (405, format!("CONNECT a.test:80 HTTP/1.1\r\nhost: a.test\r\n{end}")),
        (431, format!("GET / HTTP/1.1\r\nhost: a.test\r\nx-long: {}\r\n{end}", "x".repeat(70_000))),
        (431, format!("GET / HTTP/1.1\r\nhost: a.test\r\n{}{end}", "x: y\r\n".repeat(200))),
    ] {
        let (got, answer) = status(addr, &request).await;
        let shown = &request[..request.len().min(120)];
        assert_eq!(got, wanted, "{shown:?} was answered {answer:?}");
    }
    assert_eq!(upstream.hits(), 0, "a malformed request reached the release");
}

#[tokio::test]
async fn old_and_odd_but_proper_requests_are_served() {
    let upstream = Upstream::named("reached").await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(upstream.addr, None)).await;
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHOST: A.Test:8080\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: [::1]:80\r\nconnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n",
        "PURGE /x HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
        "GET / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ] {
        let (got, answer) = status(addr, request).await;
        assert!(got == 200 && answer.ends_with("reached"), "{request:?} was answered {answer:?}");
    }
    assert_eq!(upstream.hits(), 8);
}

#[tokio::test]
async fn lengths_that_contradict_each_other_never_make_two_requests_of_one() {
    let upstream = Upstream::named("reached").await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(upstream.addr, None)).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let request = format!(
        "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
        5 + smuggled.len()
    );
    let answer = raw(addr, request.as_bytes()).await;
    // Read as chunked, and nothing after it: what another proxy took for the body is not served as a request.
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(upstream.hits(), 1);
}
