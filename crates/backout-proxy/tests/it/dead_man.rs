//! The dead-man: fires, holds, survives, is renewed, must be adopted.

use std::time::{Duration, Instant};

use backout_proxy::{
    client::AdminError,
    wire::{DeadManOutcome, Fault, PutArgs, SideName},
};

use crate::support::{
    Proxy, ROUTE, armed,
    client::{Load, get},
    holder, put, side, split,
    upstream::{Upstream, dead_address, text},
    weights,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_moves_all_traffic_to_the_stable_side_and_must_be_adopted() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let proxy = Proxy::start().await;
    let args = armed(split(a.addr, b.addr, 25), 400);
    let began = Instant::now();
    let addr = proxy.put(args.clone()).await;
    let load = Load::start(addr, 4);
    let mut frames = proxy.admin.subscribe(ROUTE, Duration::from_secs(60)).await.unwrap();
    let first = frames.next().await.unwrap().unwrap();
    assert!(first.dead_man.is_some_and(|dead_man| dead_man.remaining_ms <= 400));
    let told = frames.next().await.unwrap().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(390), "after {:?}", began.elapsed());
    let fired = told.dead_man_fired.expect("subscribers hear it at once");
    assert_eq!(
        (fired.outcome, fired.moved_to, fired.epoch),
        (DeadManOutcome::Moved, SideName::A, 1)
    );
    assert_eq!((fired.from, told.weights), (weights(75, 25), weights(100, 0)));
    let seen = load.stop().await;
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["a", "b"], "nothing failed: {seen:?}");
    let before = b.hits();
    for _ in 0..20 {
        assert_eq!(get(addr, "/").await.text(), "a");
    }
    assert_eq!(b.hits(), before);

    // Durable, and refused until adopted.
    let proxy = proxy.restart().await;
    let state = proxy.admin.get(ROUTE).await.unwrap();
    assert_eq!((state.weights, state.dead_man), (weights(100, 0), None));
    assert!(state.dead_man_fired.is_some());
    for refused in [
        proxy.admin.put(PutArgs { epoch: 2, ..args.clone() }).await,
        proxy.admin.renew(ROUTE, holder(2), 1000).await,
    ] {
        assert!(
            matches!(refused, Err(AdminError::Refused(Fault::DeadManFired { .. }))),
            "{refused:?}"
        );
    }
    let adopted = proxy
        .admin
        .put(PutArgs { epoch: 2, acknowledge_fired: true, dead_man: None, ..args })
        .await
        .unwrap();
    assert_eq!((adopted.dead_man_fired, adopted.weights), (None, weights(75, 25)));
}

#[tokio::test]
async fn it_holds_when_the_stable_side_is_dead_or_unwell() {
    let b = Upstream::named("b").await;
    let unwell = Upstream::start(|request: hyper::Request<hyper::body::Incoming>| async move {
        text(if request.uri().path() == "/healthz" { 503 } else { 200 }, "a")
    })
    .await;
    let proxy = Proxy::start().await;
    let mut sick = side(unwell.addr, 1);
    sick.check_path = Some("/healthz".to_owned());
    for (epoch, stable) in (1..).zip([side(dead_address().await, 1), sick]) {
        let mut args = armed(split(unwell.addr, b.addr, 50), 50);
        args.sides.insert(SideName::A, stable);
        proxy.put(PutArgs { epoch, acknowledge_fired: true, ..args }).await;
        let state = proxy.route_when(|route| route.dead_man_fired.is_some()).await;
        let fired = state.dead_man_fired.unwrap();
        assert_eq!(fired.outcome, DeadManOutcome::Held, "{fired:?}");
        assert!(fired.reason.contains("held: 127.0.0.1:"), "{fired:?}");
        assert_eq!(state.weights, weights(50, 50), "nothing moved");
    }
}

#[tokio::test]
async fn a_healthy_check_path_lets_it_move() {
    let a = Upstream::named("a").await;
    let proxy = Proxy::start().await;
    let mut args = armed(split(a.addr, dead_address().await, 50), 50);
    args.sides.get_mut(&SideName::A).unwrap().check_path = Some("/healthz?deep=1".to_owned());
    proxy.put(args).await;
    let state = proxy.route_when(|route| route.dead_man_fired.is_some()).await;
    assert_eq!(state.weights, weights(100, 0));
    assert_eq!(a.hits(), 1);
}

#[tokio::test]
async fn renewed_it_stays_quiet_and_is_in_force_after_a_restart() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let proxy = Proxy::start().await;
    proxy.put(armed(split(a.addr, b.addr, 50), 1_000)).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2_500) {
        let state = proxy.admin.renew(ROUTE, holder(1), 1_000).await.unwrap();
        assert_eq!(state.weights, weights(50, 50));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The renewed deadline outlives the process: neither fired at once nor forgotten.
    proxy.admin.renew(ROUTE, holder(1), 3_000).await.unwrap();
    let proxy = proxy.restart().await;
    let state = proxy.admin.get(ROUTE).await.unwrap();
    assert_eq!((state.weights, state.dead_man_fired), (weights(50, 50), None));
    assert!(state.dead_man.unwrap().remaining_ms > 0);
    let state = proxy.route_when(|route| route.dead_man_fired.is_some()).await;
    assert_eq!(state.weights, weights(100, 0));
}

#[tokio::test]
async fn another_boot_makes_it_due_at_once() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let mut proxy = Proxy::start().await;
    proxy.put(armed(split(a.addr, b.addr, 50), 3_600_000)).await;
    proxy.kill();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let file = proxy.dir.join("routes.json");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(boot.trim()));
    std::fs::write(&file, text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000"))
        .unwrap();
    let proxy = proxy.restart_dead().await;
    let state = proxy.route_when(|route| route.dead_man_fired.is_some()).await;
    assert_eq!(state.weights, weights(100, 0));
}

#[tokio::test]
async fn without_a_split_none_is_armed() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let proxy = Proxy::start().await;
    proxy.put(armed(split(a.addr, b.addr, 50), 60_000)).await;
    let whole = armed(PutArgs { weights: weights(0, 100), ..put(a.addr, Some(b.addr)) }, 60_000);
    assert_eq!(proxy.admin.put(whole).await.unwrap().dead_man, None);
    let refused = proxy.admin.renew(ROUTE, holder(1), 1000).await;
    assert!(matches!(refused, Err(AdminError::Refused(Fault::NotArmed))), "{refused:?}");
}
