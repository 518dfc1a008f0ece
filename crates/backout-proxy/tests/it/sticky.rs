//! Sticky routing: clients stay, move with the weights, and count once each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backout_proxy::wire::{PutArgs, SessionSeen, SideName, TripArm};
use hyper::{Request, body::Incoming};

use crate::support::{
    Proxy, ROUTE, armed,
    client::{Browser, raw},
    put, split,
    upstream::{Upstream, text},
    weights,
};

const TRILLION: u64 = 1_000_000_000_000;

fn sticky(put: PutArgs) -> PutArgs {
    PutArgs { sticky: true, ..put }
}

async fn upstreams() -> (Upstream, Upstream) {
    (Upstream::named("a").await, Upstream::named("b").await)
}

async fn browsers(addr: std::net::SocketAddr, count: usize) -> Vec<Browser> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(Browser::open(addr).await);
    }
    all
}

/// Where each of them is.
async fn sides(browsers: &mut [Browser]) -> Vec<String> {
    let mut sides = Vec::new();
    for browser in browsers {
        sides.push(browser.get("/").await.text());
    }
    sides
}

fn on_b(sides: &[String]) -> usize {
    sides.iter().filter(|side| *side == "b").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_stay_and_move_once_as_the_weight_rises() {
    let (a, b) = upstreams().await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(sticky(split(a.addr, b.addr, 10))).await;
    let mut clients = browsers(addr, 100).await;
    let mut before = sides(&mut clients).await;
    assert_eq!(on_b(&before), 10, "of any hundred new clients exactly the share");
    for percent in [10, 25, 50, 51, 100] {
        proxy.put(sticky(split(a.addr, b.addr, percent))).await;
        for _ in 0..3 {
            let now = sides(&mut clients).await;
            assert_eq!(on_b(&now), usize::from(percent));
            for (before, now) in before.iter().zip(&now) {
                assert!(before == now || before == "a", "from {before} to {now} at {percent} %");
            }
            before = now;
        }
    }
    // Back: everybody at once, and at 25 % the same ones as before.
    proxy.put(sticky(split(a.addr, b.addr, 25))).await;
    let quarter = sides(&mut clients).await;
    proxy.put(sticky(split(a.addr, b.addr, 0))).await;
    assert_eq!(on_b(&sides(&mut clients).await), 0);
    proxy.put(sticky(split(a.addr, b.addr, 25))).await;
    assert_eq!(sides(&mut clients).await, quarter);
    assert_eq!(on_b(&quarter), 25);

    // They stay over a restart too.
    let proxy = proxy.restart().await;
    let mut again = browsers(addr, 100).await;
    for (new, old) in again.iter_mut().zip(&clients) {
        new.cookie.clone_from(&old.cookie);
    }
    assert_eq!(sides(&mut again).await, quarter);
    assert!(again.iter().zip(&clients).all(|(new, old)| new.cookie == old.cookie));
    assert!(proxy.admin.get(ROUTE).await.unwrap().sticky);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cookie_leads_where_no_weight_is() {
    let (a, b) = upstreams().await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(sticky(split(a.addr, b.addr, 50))).await;
    let mut client = Browser::open(addr).await;
    while client.get("/").await.text() != "b" {
        client.cookie = None;
    }
    let real = client.cookie.clone().unwrap();
    let (name, value) = real.split_once('=').unwrap();
    proxy.put(sticky(split(a.addr, b.addr, 0))).await;
    let forged =
        [&real, &format!("{name}=b"), &format!("{name}={}", &value[1..]), &format!("{name}=")]
            .map(Clone::clone);
    for cookie in forged {
        client.cookie = Some(cookie);
        assert_eq!(client.get("/").await.text(), "a");
    }
    // What was not handed out is replaced; what was stays.
    client.cookie = Some(format!("{name}={}", value.replace(|c| c != '0', "0")));
    client.get("/").await;
    assert!(!client.cookie.as_ref().unwrap().ends_with("000"));
    client.cookie = Some(real.clone());
    assert!(client.get("/").await.headers.get("set-cookie").is_none());
    proxy.put(sticky(put(a.addr, None))).await;
    assert_eq!(client.get("/").await.text(), "a");
    // Nobody is given one where routing is not sticky.
    proxy.put(put(a.addr, None)).await;
    client.cookie = None;
    assert!(client.get("/").await.headers.get("set-cookie").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookie_is_for_this_client_and_says_how_it_came() {
    let a = Upstream::start(|request: Request<Incoming>| {
        let cache = request.uri().path() == "/shared";
        async move {
            let mut answer = text(200, "a");
            if cache {
                answer.headers_mut().insert("cache-control", "public, max-age=9".parse().unwrap());
            }
            answer
        }
    })
    .await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(sticky(put(a.addr, None))).await;
    let ask = async |path: &str, header: &str| {
        let lines = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{header}connection: close\r\n\r\n");
        raw(addr, lines.as_bytes()).await.to_lowercase()
    };
    let plain = ask("/", "").await;
    assert!(plain.contains("; path=/; httponly; samesite=lax\r\n"), "{plain}");
    let tls = ask("/", "x-forwarded-proto: https\r\n").await;
    assert!(tls.contains("; samesite=lax; secure\r\n"), "{tls}");
    let shared = ask("/shared", "").await;
    assert!(!shared.contains("set-cookie"), "{shared}");
    drop(a);
    let dead = ask("/", "").await;
    assert!(dead.starts_with("http/1.1 502") && dead.contains("set-cookie"), "{dead}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dead_man_moves_everybody_at_once() {
    let (a, b) = upstreams().await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(sticky(armed(split(a.addr, b.addr, 50), 500))).await;
    let mut clients = browsers(addr, 20).await;
    sides(&mut clients).await;
    proxy.route_when(|route| route.dead_man_fired.is_some()).await;
    assert_eq!(on_b(&sides(&mut clients).await), 0);
    assert!(proxy.admin.get(ROUTE).await.unwrap().sticky);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_is_told_each_outcome_of_each_client_once() {
    let b = Upstream::start(|request: Request<Incoming>| {
        let fails = request.uri().path() == "/bad";
        async move { text(if fails { 500 } else { 200 }, "b") }
    })
    .await;
    let a = Upstream::named("a").await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(sticky(split(a.addr, b.addr, 50))).await;
    let mut before = browsers(addr, 4).await;
    sides(&mut before).await;
    let mut frames = proxy.admin.subscribe(ROUTE, Duration::from_millis(10)).await.unwrap();
    let first = frames.next().await.unwrap().unwrap();
    assert!(first.sides.values().all(|side| side.sessions.as_ref().unwrap().seen.is_empty()));
    let mut clients = browsers(addr, 10).await;
    let of_b = on_b(&sides(&mut clients).await);
    assert!((1..10).contains(&of_b), "{of_b}");
    for path in ["/bad", "/"] {
        for client in &mut clients {
            client.get(path).await;
        }
    }
    let mut told = [Vec::new(), Vec::new()];
    while told[0].len() + told[1].len() < 30 {
        let frame = frames.next().await.unwrap().unwrap();
        for (name, side) in frame.sides {
            let sessions = side.sessions.unwrap();
            assert!(!sessions.lost);
            told[name.index()].extend(sessions.seen);
        }
    }
    assert_eq!([told[0].len(), told[1].len()], [30 - 3 * of_b, 3 * of_b]);
    for (side, has_failures) in [(SideName::A, false), (SideName::B, true)] {
        let told = &told[side.index()];
        for client in told.iter().map(|seen| seen.session) {
            let of = |seen: &&SessionSeen| seen.session == client;
            let outcomes: Vec<bool> =
                told.iter().filter(of).map(|seen| seen.bucket.is_some()).collect();
            assert_eq!(outcomes, [true, !has_failures, true], "side {side}");
        }
    }
    let last = frames.next().await.unwrap().unwrap();
    assert!(last.sides.values().all(|side| side.sessions.as_ref().unwrap().seen.is_empty()));
    // Routes that are not sticky tell of none.
    proxy.put(split(a.addr, b.addr, 50)).await;
    assert_eq!(proxy.side(SideName::A).await.sessions, None);
}

fn tripwired(put: PutArgs) -> PutArgs {
    let rule = TripArm {
        stable: SideName::A,
        false_trip_ppt: TRILLION / 250,
        harmless_ppt: TRILLION / 1000,
        tolerance_ppt: 0,
        from_start_ppt: TRILLION / 100 * 95,
        warm_up_ms: 0,
        watch_ms: 3_600_000,
    };
    sticky(PutArgs { trip: Some(rule), ..put })
}

/// Answers /abuse with 500, and everything else too once it is bad.
async fn abused(name: &'static str, bad: Arc<AtomicBool>) -> Upstream {
    Upstream::start(move |request: Request<Incoming>| {
        let fails = request.uri().path() == "/abuse"
            || (bad.load(Ordering::SeqCst) && request.uri().path() != "/healthz");
        async move { text(if fails { 500 } else { 200 }, name) }
    })
    .await
}

/// A client of side b.
async fn on_side_b(addr: std::net::SocketAddr) -> Browser {
    let mut client = Browser::open(addr).await;
    while client.get("/").await.text() != "b" {
        client.cookie = None;
    }
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_alone_never_trips_it_and_a_bad_release_does() {
    let bad = Arc::new(AtomicBool::new(false));
    let a = abused("a", Arc::new(AtomicBool::new(false))).await;
    let b = abused("b", bad.clone()).await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(tripwired(split(a.addr, b.addr, 10))).await;
    let mut abuser = on_side_b(addr).await;
    let mut clients = browsers(addr, 40).await;
    for _ in 0..40 {
        for _ in 0..10 {
            assert_eq!(abuser.get("/abuse").await.status, 500);
        }
        sides(&mut clients).await;
    }
    assert_eq!(proxy.side(SideName::B).await.failed, 400);
    assert_eq!(proxy.admin.get(ROUTE).await.unwrap().trip_fired, None);

    // Sessions that fail on b, beside the abuser's: each counts once, and a few are beyond doubt.
    bad.store(true, Ordering::SeqCst);
    let mut failed = 0;
    let fired = loop {
        let mut fresh = Browser::open(addr).await;
        failed += usize::from(!fresh.get("/").await.status.is_success());
        // It asks again, and that adds nothing.
        fresh.get("/").await;
        if let Some(fired) = proxy.admin.get(ROUTE).await.unwrap().trip_fired {
            break fired;
        }
        assert!(failed <= 40, "{failed} failed sessions and no trip");
    };
    assert!((3..=8).contains(&failed), "{failed}");
    assert_eq!(fired.from, weights(90, 10));
    for client in &mut clients {
        assert_eq!(client.get("/").await.text(), "a");
    }
    assert_eq!(abuser.get("/").await.text(), "a");
}
