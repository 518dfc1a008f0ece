//! Upstreams that die, close, hang; clients that leave.

use std::time::{Duration, Instant};

use backout_proxy::wire::{PutArgs, SideName};
use hyper::Method;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{
    Proxy,
    client::{Conn, Load, get, post},
    put, split,
    upstream::{Upstream, closes_silently_after, dead_address, read_head, text},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_dies_under_load_costs_no_get_and_is_blamed() {
    let (good, bad) = (Upstream::named("good").await, Upstream::named("bad").await);
    let proxy = Proxy::start().await;
    let addr = proxy.put(split(good.addr, bad.addr, 50)).await;
    let load = Load::start(addr, 32);
    proxy.side_when(SideName::B, |stats| stats.requests > 500).await;
    bad.kill().await;
    let after = proxy.side_when(SideName::B, |stats| stats.failed > 500).await;
    let seen = load.stop().await;
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["bad", "good"], "{seen:?}");
    assert_eq!(after.no_answer, after.failed);
    let blamed = proxy.side_when(SideName::B, |stats| stats.in_flight == 0).await;
    let spared = proxy.side(SideName::A).await;
    assert_eq!(spared.failed, 0, "{spared:?}");
    assert_eq!(
        blamed.failed, blamed.spared,
        "each failure was a GET, and each was spared: {blamed:?}"
    );
    // The dead side keeps its share of the first tries, so that a judge sees the truth.
    let first_tries = spared.requests - blamed.spared;
    assert!(first_tries.abs_diff(blamed.requests) <= 64, "{first_tries} and {}", blamed.requests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_never_left_goes_to_the_other_side() {
    let good = Upstream::start(|request: hyper::Request<hyper::body::Incoming>| async move {
        use http_body_util::BodyExt;
        text(200, request.into_body().collect().await.unwrap().to_bytes())
    })
    .await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(split(good.addr, dead_address().await, 50)).await;
    let mut conn = Conn::open(addr).await;
    for number in 0..100 {
        let got = conn.request(Method::POST, "/", &format!("number {number}")).await.unwrap();
        assert_eq!((got.status.as_u16(), got.text()), (200, format!("number {number}")));
    }
    assert_eq!(good.hits(), 100);
    let dead = proxy.side(SideName::B).await;
    assert_eq!((dead.failed, dead.spared), (50, 50), "the failure is seen all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_posts_in_flight_are_lost_when_a_release_dies() {
    let (good, bad) = (Upstream::named("good").await, Upstream::named("bad").await);
    let proxy = Proxy::start().await;
    let addr = proxy.put(split(good.addr, bad.addr, 50)).await;
    let gets = Load::start(addr, 32);
    let posts = Load::of(&Method::POST, addr, 32);
    proxy.side_when(SideName::B, |stats| stats.requests > 1_000).await;
    bad.kill().await;
    proxy.side_when(SideName::B, |stats| stats.failed > 1_000).await;
    let (gets, posts) = (gets.stop().await, posts.stop().await);
    assert_eq!(gets.keys().collect::<Vec<_>>(), ["bad", "good"], "{gets:?}");
    let served = posts["good"] + posts["bad"];
    let lost = posts.values().sum::<u64>() - served;
    assert!(served > 1_000 && lost <= 32, "{posts:?}");
}

#[tokio::test]
async fn posts_to_a_dead_release_fail_honestly() {
    let good = Upstream::named("good").await;
    let proxy = Proxy::start().await;
    let dead = dead_address().await;
    let addr = proxy.put(split(good.addr, dead, 100)).await;
    let got = post(addr, "/", "x").await;
    assert_eq!((got.status.as_u16(), got.reason()), (502, "upstream-refused"));
    // With the whole weight on the dead side there is nobody to spare the user.
    assert_eq!(get(addr, "/").await.status, 502);
    let stats = proxy.side(SideName::B).await;
    assert_eq!((stats.failed, stats.no_answer, stats.spared), (2, 2, 0));
    assert!(stats.first_failed_at.unwrap() <= stats.last_failed_at.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_that_close_silently_fail_no_get_and_are_not_blamed() {
    let closing = closes_silently_after(5).await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(closing.addr, None)).await;
    let load = Load::start(addr, 16);
    proxy.side_when(SideName::A, |stats| stats.requests > 5_000).await;
    let seen = load.stop().await;
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["ok"], "{seen:?}");
    let stats = proxy.side_when(SideName::A, |stats| stats.in_flight == 0).await;
    assert_eq!((stats.failed, stats.raced), (0, 0), "{stats:?}");
    assert_eq!(stats.requests, stats.answers[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posts_on_silently_closed_connections_hardly_fail_and_never_count() {
    let closing = Upstream::raw(|mut stream, _| async move {
        for _ in 0..5 {
            if !read_post(&mut stream).await {
                return;
            }
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    })
    .await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(closing.addr, None)).await;
    let (mut failed, total) = (0, 2_000);
    let mut conns = Vec::new();
    for _ in 0..8 {
        conns.push(tokio::spawn(async move {
            let mut conn = Conn::open(addr).await;
            let mut failed = 0;
            for _ in 0..total / 8 {
                let got = conn.request(Method::POST, "/", "x").await.unwrap();
                assert!(got.status == 200 || got.reason() == "upstream-race", "{got:?}");
                failed += u64::from(got.status != 200);
            }
            failed
        }));
    }
    for conn in conns {
        failed += conn.await.unwrap();
    }
    let stats = proxy.side_when(SideName::A, |stats| stats.in_flight == 0).await;
    assert_eq!((stats.failed, stats.raced), (0, failed), "{stats:?}");
    // Usually none. It is the busy machine that lets a release send its last answer and close much later.
    assert!(failed * 100 <= total, "{failed} of {total} POSTs failed");
}

/// Reads a head and one byte of body.
async fn read_post(stream: &mut TcpStream) -> bool {
    use tokio::io::AsyncReadExt;
    read_head(stream).await && stream.read_u8().await.is_ok()
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_504() {
    let slow = Upstream::start(|_| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        text(200, "late")
    })
    .await;
    let other = Upstream::named("other").await;
    let proxy = Proxy::start().await;
    let addr = proxy
        .put(PutArgs { response_timeout_ms: Some(300), ..split(other.addr, slow.addr, 100) })
        .await;
    let began = Instant::now();
    let got = get(addr, "/").await;
    assert_eq!((got.status.as_u16(), got.reason()), (504, "upstream-timeout"));
    assert!(began.elapsed() >= Duration::from_millis(200));
    let stats = proxy.side(SideName::B).await;
    assert_eq!((stats.failed, stats.no_answer, stats.in_flight), (1, 1, 0));
}

#[tokio::test]
async fn a_client_that_leaves_is_neither_success_nor_failure() {
    let slow = Upstream::start(|_| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        text(200, "late")
    })
    .await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(slow.addr, None)).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await.unwrap();
    proxy.side_when(SideName::A, |stats| stats.in_flight == 1).await;
    drop(stream);
    let stats = proxy.side_when(SideName::A, |stats| stats.in_flight == 0).await;
    assert_eq!((stats.client_left, stats.failed, stats.trials(), stats.requests), (1, 0, 0, 1));
}

#[tokio::test]
async fn a_client_that_leaves_in_its_upload_is_neither() {
    let upstream = Upstream::start(|request: hyper::Request<hyper::body::Incoming>| async move {
        use http_body_util::BodyExt;
        match request.into_body().collect().await {
            Ok(_) => text(200, "all"),
            Err(_) => text(500, "broken"),
        }
    })
    .await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(upstream.addr, None)).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 100\r\n\r\npart")
        .await
        .unwrap();
    proxy.side_when(SideName::A, |stats| stats.in_flight == 1).await;
    drop(stream);
    let stats = proxy.side_when(SideName::A, |stats| stats.in_flight == 0).await;
    assert_eq!((stats.client_left, stats.failed, stats.trials()), (1, 0, 0), "{stats:?}");
}

#[tokio::test]
async fn what_the_release_answers_is_counted_by_class_and_told_at_once() {
    let upstream = Upstream::start(|request: hyper::Request<hyper::body::Incoming>| async move {
        text(request.uri().path()[1..].parse().unwrap(), "")
    })
    .await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(upstream.addr, None)).await;
    let mut conn = Conn::open(addr).await;
    for status in ["200", "204", "302", "404", "418", "429"] {
        conn.get(&format!("/{status}")).await;
    }
    // One frame a minute, but failures are told at once.
    let mut frames =
        proxy.admin.subscribe(crate::support::ROUTE, Duration::from_secs(60)).await.unwrap();
    let first = frames.next().await.unwrap().unwrap();
    let stats = &first.sides[&SideName::A];
    assert_eq!((stats.answers, stats.failed), ([0, 2, 1, 3, 0], 0));
    assert_eq!(stats.latency.iter().sum::<u64>(), 6);
    assert_eq!((stats.deployment, stats.version.as_str()), (1, "1.0.1"));
    conn.get("/503").await;
    let second = frames.next().await.unwrap().unwrap();
    let stats = &second.sides[&SideName::A];
    assert_eq!((stats.answers, stats.failed, stats.no_answer), ([0, 2, 1, 3, 1], 1, 0));
    assert!(stats.first_failed_at.is_some() && stats.first_failed_at == stats.last_failed_at);
    assert_eq!(first.instance, second.instance);
    // Another deployment on the side starts anew.
    let mut next = put(upstream.addr, None);
    next.sides.get_mut(&SideName::A).unwrap().deployment = 7;
    proxy.put(next).await;
    let third = frames.next().await.unwrap().unwrap();
    assert_eq!((third.sides[&SideName::A].requests, third.sides[&SideName::A].deployment), (0, 7));
}

#[tokio::test]
async fn garbage_from_a_release_is_502() {
    let upstream = Upstream::raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"220 smtp ready\r\n\r\n").await;
    })
    .await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(upstream.addr, None)).await;
    let got = get(addr, "/").await;
    assert_eq!((got.status.as_u16(), got.reason()), (502, "upstream-invalid"));
    let stats = proxy.side(SideName::A).await;
    assert_eq!((stats.failed, stats.pool_races), (1, 0), "{stats:?}");
}
