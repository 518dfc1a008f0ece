//! The trip: fires on errors of the side on trial alone, holds, survives, must be adopted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use backout_proxy::{
    client::AdminError,
    wire::{DeadManArm, DeadManOutcome, Fault, PutArgs, RouteState, SideName, TripArm},
};
use hyper::{Request, body::Incoming};

use crate::support::{
    PATIENCE, Proxy, ROUTE,
    client::{Conn, get},
    holder, put, side, split,
    upstream::{Upstream, text},
    weights,
};

const TRILLION: u64 = 1_000_000_000_000;

/// As the engine arms it by default.
fn rule() -> TripArm {
    TripArm {
        stable: SideName::A,
        false_trip_ppt: TRILLION / 250,
        harmless_ppt: TRILLION / 1000,
        tolerance_ppt: 0,
        from_start_ppt: TRILLION / 100 * 95,
        warm_up_ms: 0,
        watch_ms: 3_600_000,
    }
}

fn tripwired(put: PutArgs) -> PutArgs {
    PutArgs { trip: Some(rule()), ..put }
}

/// Fails every `n`th request; 0: none. Checks of `/healthz` pass.
async fn failing(name: &'static str, every: Arc<AtomicU64>) -> Upstream {
    let count = AtomicU64::new(0);
    Upstream::start(move |request: Request<Incoming>| {
        let every = every.load(Ordering::SeqCst);
        let asked = request.uri().path() != "/healthz";
        let number = if asked { count.fetch_add(1, Ordering::SeqCst) } else { 1 };
        let fails = asked && every > 0 && number.is_multiple_of(every);
        async move { text(if fails { 500 } else { 200 }, name) }
    })
    .await
}

fn every(n: u64) -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(n))
}

async fn fired(proxy: &Proxy) -> RouteState {
    proxy.route_when(|route| route.trip_fired.is_some()).await
}

/// Sends requests one after another until the trip has fired; returns how many failed.
async fn ask_until_fired(proxy: &Proxy, conn: &mut Conn) -> usize {
    let mut failed = 0;
    for number in 0..20_000 {
        failed += usize::from(!conn.get("/").await.status.is_success());
        if number % 10 == 9 && proxy.admin.get(ROUTE).await.unwrap().trip_fired.is_some() {
            return failed;
        }
    }
    panic!("{failed} failures and no trip: {:?}", proxy.admin.get(ROUTE).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_the_bad_side_out_and_must_be_adopted() {
    let (a, b) = (Upstream::named("a").await, failing("b", every(1)).await);
    let proxy = Proxy::start().await;
    let args = PutArgs {
        dead_man: Some(DeadManArm { stable: SideName::A, after_ms: 3_600_000 }),
        ..tripwired(split(a.addr, b.addr, 10))
    };
    let addr = proxy.put(args.clone()).await;
    let mut frames = proxy.admin.subscribe(ROUTE, Duration::from_secs(60)).await.unwrap();
    assert_eq!(frames.next().await.unwrap().unwrap().trip_fired, None);
    let mut conn = Conn::open(addr).await;
    let failed = ask_until_fired(&proxy, &mut conn).await;
    // Three failures at 10 % against none are beyond doubt; a few more may come while it looks.
    assert!((3..=6).contains(&failed), "{failed}");
    let told = loop {
        let frame = frames.next().await.unwrap().unwrap();
        if let Some(fired) = frame.trip_fired {
            assert_eq!(frame.weights, weights(100, 0));
            break fired;
        }
    };
    assert_eq!(
        (told.outcome, told.moved_to, told.epoch, &told.from),
        (DeadManOutcome::Moved, SideName::A, 1, &weights(90, 10))
    );
    assert!(told.evidence.starts_with("canary errors 100.0 % of "), "{}", told.evidence);
    assert!(told.evidence.contains("odds of a false alarm < 1 in "), "{}", told.evidence);
    for _ in 0..100 {
        assert_eq!(conn.get("/").await.text(), "a");
    }

    // Durable as soon as the disk has it, and refused until adopted.
    let routes = proxy.dir.join("routes.json");
    let started = std::time::Instant::now();
    while !std::fs::read_to_string(&routes).unwrap().contains("\"evidence\"") {
        assert!(started.elapsed() < PATIENCE, "it is not written down");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let proxy = proxy.restart().await;
    let state = fired(&proxy).await;
    assert_eq!((&state.weights, &state.dead_man, state.trip), (&weights(100, 0), &None, None));
    assert_eq!(state.trip_fired, Some(told));
    for refused in [
        proxy.admin.put(PutArgs { epoch: 2, ..args.clone() }).await,
        proxy.admin.put(PutArgs { weights: weights(0, 100), ..args.clone() }).await,
        proxy.admin.renew(ROUTE, holder(2), 1000).await,
    ] {
        assert!(
            matches!(refused, Err(AdminError::Refused(Fault::TripFired { .. }))),
            "{refused:?}"
        );
    }
    let older = PutArgs { epoch: 0, acknowledge_fired: true, ..args.clone() };
    let older = proxy.admin.put(older).await;
    assert!(matches!(older, Err(AdminError::Refused(Fault::StaleEpoch { current: 1 }))));
    let back =
        PutArgs { epoch: 2, acknowledge_fired: true, trip: None, weights: weights(100, 0), ..args };
    assert_eq!(proxy.admin.put(back).await.unwrap().trip_fired, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_both_sides_suffer_what_is_rare_and_what_is_old_is_no_reason() {
    // One of 1000 fails on the canary: harmless by itself, whatever the other side does.
    let rare = (failing("a", every(0)).await, failing("b", every(1000)).await, 4_000);
    // Every second request fails, on both.
    let shared = (failing("a", every(2)).await, failing("b", every(2)).await, 1_000);
    // The first error ever on a route.
    let first = (failing("a", every(0)).await, failing("b", every(1_000_000)).await, 200);
    for (a, b, requests) in [rare, shared, first] {
        let proxy = Proxy::start().await;
        let addr = proxy.put(tripwired(split(a.addr, b.addr, 50))).await;
        let mut conn = Conn::open(addr).await;
        for _ in 0..requests {
            conn.get("/").await;
        }
        // Every outcome is counted by now; two looks later they are judged.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let state = proxy.admin.get(ROUTE).await.unwrap();
        assert_eq!((state.trip_fired, state.weights), (None, weights(50, 50)));
        assert!(proxy.side(SideName::B).await.failed > 0);
    }
    // What was counted before it was armed belongs to nobody's trial.
    let (a, broken) = (failing("a", every(0)).await, every(1));
    let b = failing("b", broken.clone()).await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(split(a.addr, b.addr, 50)).await;
    let mut conn = Conn::open(addr).await;
    for _ in 0..100 {
        conn.get("/").await;
    }
    assert!(proxy.side(SideName::B).await.failed >= 40);
    broken.store(0, Ordering::SeqCst);
    proxy.put(tripwired(split(a.addr, b.addr, 50))).await;
    for _ in 0..100 {
        conn.get("/").await;
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(proxy.admin.get(ROUTE).await.unwrap().trip_fired, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_both_sides_bad_it_moves_nothing_and_says_so() {
    let (b, broken) = (failing("b", every(1)).await, every(0));
    let unwell = {
        let broken = broken.clone();
        Upstream::start(move |request: Request<Incoming>| {
            let sick = broken.load(Ordering::SeqCst) > 0 && request.uri().path() == "/healthz";
            async move { text(if sick { 503 } else { 200 }, "a") }
        })
        .await
    };
    broken.store(1, Ordering::SeqCst);
    let proxy = Proxy::start().await;
    let mut args = tripwired(split(unwell.addr, b.addr, 20));
    args.dead_man = Some(DeadManArm { stable: SideName::A, after_ms: 3_600_000 });
    args.sides.get_mut(&SideName::A).unwrap().check_path = Some("/healthz".to_owned());
    let addr = proxy.put(args.clone()).await;
    ask_until_fired(&proxy, &mut Conn::open(addr).await).await;
    let state = fired(&proxy).await;
    let said = state.trip_fired.unwrap();
    assert_eq!((said.outcome, &state.weights), (DeadManOutcome::Held, &weights(80, 20)));
    assert!(said.reason.unwrap().contains("/healthz answered"), "it says why");
    assert_eq!(state.trip, None, "it fires once");
    assert!(state.dead_man.is_some(), "the split that is left is still guarded");
    proxy.admin.renew(ROUTE, holder(1), 3_600_000).await.unwrap();
    let refused = proxy.admin.put(PutArgs { weights: weights(50, 50), ..args.clone() }).await;
    assert!(matches!(refused, Err(AdminError::Refused(Fault::TripFired { .. }))));
    let back = PutArgs { acknowledge_fired: true, weights: weights(100, 0), ..args };
    assert_eq!(proxy.admin.put(back).await.unwrap().weights, weights(100, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_asks_the_stable_side_nobody_gives_the_bad_one_more() {
    let (asked, may_answer) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let slow = {
        let (asked, may_answer) = (asked.clone(), may_answer.clone());
        Upstream::start(move |request: Request<Incoming>| {
            let (asked, may_answer) = (asked.clone(), may_answer.clone());
            async move {
                if request.uri().path() == "/healthz" {
                    asked.fetch_add(1, Ordering::SeqCst);
                    drop(may_answer.acquire().await);
                }
                text(200, "a")
            }
        })
        .await
    };
    let b = failing("b", every(1)).await;
    let proxy = Proxy::start().await;
    let mut args = tripwired(split(slow.addr, b.addr, 20));
    args.sides.get_mut(&SideName::A).unwrap().check_path = Some("/healthz".to_owned());
    let addr = proxy.put(args.clone()).await;
    let mut conn = Conn::open(addr).await;
    while asked.load(Ordering::SeqCst) == 0 {
        conn.get("/").await;
    }
    for (a, b) in [(50, 50), (0, 100)] {
        let more = PutArgs { weights: weights(a, b), ..args.clone() };
        let refused = proxy.admin.put(more).await;
        let firing = Fault::TripFiring { side: SideName::B };
        assert!(
            matches!(&refused, Err(AdminError::Refused(fault)) if *fault == firing),
            "{refused:?}"
        );
    }
    may_answer.add_permits(100);
    assert_eq!(fired(&proxy).await.weights, weights(100, 0));
}

/// The stored number of the running test.
fn tests_begun(proxy: &Proxy) -> u64 {
    let text = std::fs::read_to_string(proxy.dir.join("routes.json")).unwrap();
    let stored: serde_json::Value = serde_json::from_str(&text).unwrap();
    stored["routes"][0]["tests"]["begun"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_goes_on_over_weights_and_begins_anew_with_less_after_a_restart() {
    let (a, broken) = (Upstream::named("a").await, every(0));
    let b = failing("b", broken.clone()).await;
    let proxy = Proxy::start().await;
    let addr = proxy.put(tripwired(split(a.addr, b.addr, 10))).await;
    proxy.put(tripwired(split(a.addr, b.addr, 20))).await;
    proxy.put(tripwired(PutArgs { epoch: 2, ..split(a.addr, b.addr, 25) })).await;
    assert_eq!(tests_begun(&proxy), 1, "one test, whatever the weights");
    let proxy = proxy.restart().await;
    assert_eq!(tests_begun(&proxy), 2, "what was spent before counts");
    assert_eq!(proxy.admin.get(ROUTE).await.unwrap().trip, Some(rule()));
    // The engine does not know of the restart and goes on.
    proxy.put(tripwired(PutArgs { epoch: 2, ..split(a.addr, b.addr, 10) })).await;
    assert_eq!(tests_begun(&proxy), 2);
    broken.store(1, Ordering::SeqCst);
    let failed = ask_until_fired(&proxy, &mut Conn::open(addr).await).await;
    assert!((4..=8).contains(&failed), "{failed}: a twentieth of the budget is one or two more");

    // A repair is another deployment, with a budget of its own and none of the old errors.
    broken.store(0, Ordering::SeqCst);
    let mut repair = tripwired(PutArgs { epoch: 3, ..split(a.addr, b.addr, 10) });
    repair.sides.insert(SideName::B, side(b.addr, 3));
    repair.acknowledge_fired = true;
    proxy.put(repair).await;
    assert_eq!(tests_begun(&proxy), 1);
    let mut conn = Conn::open(addr).await;
    for _ in 0..300 {
        assert_eq!(conn.get("/").await.status, 200);
    }
    assert_eq!(proxy.admin.get(ROUTE).await.unwrap().trip_fired, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_it_is_written_down_it_fires_again() {
    let (a, b) = (Upstream::named("a").await, failing("b", every(1)).await);
    let mut proxy = Proxy::start().await;
    let addr = proxy.put(tripwired(split(a.addr, b.addr, 20))).await;
    let file = proxy.dir.join("routes.json");
    let before = std::fs::read(&file).unwrap();
    ask_until_fired(&proxy, &mut Conn::open(addr).await).await;
    proxy.kill();
    // What a death between memory and disk leaves behind.
    std::fs::write(&file, before).unwrap();
    let proxy = proxy.restart_dead().await;
    let state = proxy.admin.get(ROUTE).await.unwrap();
    assert_eq!((state.weights, state.trip), (weights(80, 20), Some(rule())));
    ask_until_fired(&proxy, &mut Conn::open(addr).await).await;
    assert_eq!(fired(&proxy).await.weights, weights(100, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hangs_on_the_bad_side_is_answered_by_the_other() {
    let a = Upstream::named("a").await;
    let hangs = Arc::new(AtomicUsize::new(0));
    let b = {
        let hangs = hangs.clone();
        Upstream::start(move |request: Request<Incoming>| {
            let slow = request.uri().path() == "/slow";
            hangs.fetch_add(usize::from(slow), Ordering::SeqCst);
            async move {
                if slow {
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                }
                text(500, "b")
            }
        })
        .await
    };
    let proxy = Proxy::start().await;
    let addr = proxy.put(tripwired(split(a.addr, b.addr, 50))).await;
    let mut waiting = Vec::new();
    while hangs.load(Ordering::SeqCst) < 3 {
        waiting.push(tokio::spawn(get(addr, "/slow")));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ask_until_fired(&proxy, &mut Conn::open(addr).await).await;
    // On a slow machine one more may have gone there before the third was seen.
    let asked = waiting.len() as u64;
    for answer in waiting {
        assert_eq!(answer.await.unwrap().text(), "a");
    }
    let rescued = proxy.side(SideName::B).await.rescued;
    assert!((3..=asked).contains(&rescued), "{rescued} of {asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_split_there_is_nothing_to_compare() {
    let (a, b) = (Upstream::named("a").await, failing("b", every(1)).await);
    let proxy = Proxy::start().await;
    let addr = proxy.put(tripwired(split(a.addr, b.addr, 50))).await;
    let whole = tripwired(PutArgs { weights: weights(0, 100), ..put(a.addr, Some(b.addr)) });
    assert_eq!(proxy.admin.put(whole).await.unwrap().trip, None);
    let mut conn = Conn::open(addr).await;
    for _ in 0..100 {
        assert_eq!(conn.get("/").await.status, 500);
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(proxy.admin.get(ROUTE).await.unwrap().trip_fired, None);
}

#[tokio::test]
async fn a_trip_that_makes_no_sense_is_refused() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let proxy = Proxy::start().await;
    let arm = |trip| PutArgs { trip: Some(trip), ..split(a.addr, b.addr, 50) };
    let alone = PutArgs { trip: Some(rule()), ..put(a.addr, None) };
    let wrong = [
        alone,
        arm(TripArm { false_trip_ppt: 0, ..rule() }),
        arm(TripArm { false_trip_ppt: TRILLION + 1, ..rule() }),
        arm(TripArm { harmless_ppt: TRILLION + 1, ..rule() }),
        arm(TripArm { from_start_ppt: u64::MAX, ..rule() }),
        arm(TripArm { watch_ms: u64::MAX, ..rule() }),
    ];
    for put in wrong {
        let refused = proxy.admin.put(put).await;
        assert!(matches!(refused, Err(AdminError::Refused(Fault::Invalid { .. }))), "{refused:?}");
    }
    // A budget too small for any evidence arms, and never fires.
    let silent = arm(TripArm { false_trip_ppt: 1, ..rule() });
    assert!(proxy.admin.put(silent).await.unwrap().trip.is_some());
}

#[tokio::test]
async fn a_route_that_can_t_listen_says_so() {
    let a = Upstream::named("a").await;
    let mut proxy = Proxy::start().await;
    let addr = proxy.put(put(a.addr, None)).await;
    assert_eq!(proxy.frame().await.unbound, None);
    proxy.kill();
    let taken = std::net::TcpListener::bind(addr).unwrap();
    let proxy = proxy.restart_dead().await;
    let unbound = proxy.frame().await.unbound.expect("it says why");
    assert!(unbound.contains(&addr.to_string()) && unbound.contains("in use"), "{unbound}");
    drop(taken);
    let state = proxy.route_when(|route| route.bound.is_some()).await;
    assert_eq!((state.unbound, proxy.frame().await.unbound), (None, None));
    assert_eq!(get(addr, "/").await.text(), "a");
}
