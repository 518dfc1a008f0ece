//! Weights and switches.

use std::time::Duration;

use backout_proxy::wire::{PutArgs, SideName};

use crate::support::{
    Proxy,
    client::{Conn, Load, get},
    put, split,
    upstream::{Upstream, text},
    weights,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_are_exact_over_all_connections() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let proxy = Proxy::start().await;
    for (epoch, percent) in (1..).zip([10, 1, 25, 50, 99]) {
        let addr = proxy.put(PutArgs { epoch, ..split(a.addr, b.addr, percent) }).await;
        let before = b.hits();
        let mut conns = Vec::new();
        for _ in 0..10 {
            conns.push(Conn::open(addr).await);
        }
        for _ in 0..20 {
            for conn in &mut conns {
                assert_eq!(conn.get("/").await.status, 200);
            }
        }
        assert_eq!(b.hits() - before, 2 * u64::from(percent), "{percent} % of 200");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_switches_under_load_lose_nothing() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(a.addr, Some(b.addr))).await;
    let load = Load::start(addr, 16);
    for switch in 0..200 {
        let to_b = switch % 2 == 0;
        let weights = if to_b { weights(0, 100) } else { weights(100, 0) };
        proxy.put(PutArgs { weights, rescue: switch % 3 == 0, ..put(a.addr, Some(b.addr)) }).await;
        // A request that begins after the acknowledgement obeys.
        assert_eq!(get(addr, "/").await.text(), if to_b { "b" } else { "a" }, "switch {switch}");
    }
    let seen = load.stop().await;
    assert!(seen["a"] > 0 && seen["b"] > 0, "{seen:?}");
    assert_eq!(seen.len(), 2, "{seen:?}");
    for side in SideName::ALL {
        let stats = proxy.side_when(side, |stats| stats.in_flight == 0).await;
        assert_eq!(stats.failed, 0, "{stats:?}");
        assert_eq!(stats.requests, stats.trials() + stats.rescued, "{stats:?}");
    }
}

#[tokio::test]
async fn no_weight_is_503_with_retry_after() {
    let a = Upstream::named("a").await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(PutArgs { weights: weights(0, 0), ..put(a.addr, None) }).await;
    let got = get(addr, "/").await;
    assert_eq!((got.status.as_u16(), got.reason()), (503, "no-side"));
    assert_eq!(got.headers["retry-after"], "1");
    assert_eq!(a.hits(), 0);
}

#[tokio::test]
async fn what_hangs_on_the_bad_side_is_rescued_and_the_rest_cut() {
    let slow = Upstream::start(|_| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        text(200, "slow")
    })
    .await;
    let good = Upstream::named("good").await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(split(good.addr, slow.addr, 100)).await;
    let hanging_get = tokio::spawn(get(addr, "/"));
    let hanging_post = tokio::spawn(crate::support::client::post(addr, "/", "x"));
    proxy.side_when(SideName::B, |stats| stats.in_flight == 2).await;
    proxy
        .put(PutArgs { weights: weights(100, 0), rescue: true, ..split(good.addr, slow.addr, 0) })
        .await;
    assert_eq!(hanging_get.await.unwrap().text(), "good");
    let left = proxy.side_when(SideName::B, |stats| stats.in_flight == 1).await;
    assert_eq!((left.rescued, left.failed), (1, 0));
    let drain = |cut| {
        proxy.admin.drain(
            crate::support::ROUTE,
            SideName::B,
            crate::support::holder(1),
            Duration::from_millis(300),
            cut,
        )
    };
    assert_eq!(drain(false).await.unwrap().remaining, 1);
    assert_eq!(drain(true).await.unwrap().remaining, 0);
    let cut = hanging_post.await.unwrap();
    assert_eq!((cut.status.as_u16(), cut.reason()), (503, "withdrawn"));
    assert_eq!(proxy.side(SideName::B).await.failed, 0);
}

#[tokio::test]
async fn the_release_learns_who_asks_and_nothing_hop_by_hop() {
    let echo = Upstream::start(|request: hyper::Request<hyper::body::Incoming>| async move {
        let mut lines: Vec<String> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
            .collect();
        lines.sort();
        text(200, format!("{} {}\n{}", request.method(), request.uri(), lines.concat()))
    })
    .await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(put(echo.addr, None)).await;
    let answer = crate::support::client::raw(
        addr,
        b"GET http://shop.test:8080/x?y=1 HTTP/1.1\r\nHost: other.test\r\nConnection: close, x-hop, host\r\n\
          X-Hop: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nX-Forwarded-For: 10.1.2.3\r\nAccept: */*\r\n\r\n",
    )
    .await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        body,
        "GET /x?y=1\naccept: */*\nhost: shop.test:8080\nx-forwarded-for: 10.1.2.3, 127.0.0.1\n\
         x-forwarded-host: shop.test:8080\nx-forwarded-proto: http\n"
    );
}
