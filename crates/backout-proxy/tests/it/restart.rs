//! What survives the process, and how it ends.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use backout_proxy::wire::{PutArgs, SideName};

use crate::support::{
    Proxy, ROUTE,
    client::{Conn, get},
    holder, program, put, split,
    upstream::{Upstream, text},
    weights,
};

#[tokio::test]
async fn routes_and_weights_survive_kill_9() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let proxy = Proxy::start().await;
    let addr = proxy.put(PutArgs { epoch: 3, ..split(a.addr, b.addr, 25) }).await;
    let before = proxy.admin.get(ROUTE).await.unwrap();
    let instance = proxy.admin.greeting().instance.clone();
    let mut kept = Conn::open(addr).await;
    kept.get("/").await;

    let proxy = proxy.restart().await;
    assert_ne!(proxy.admin.greeting().instance, instance);
    assert_eq!(
        proxy.admin.get(ROUTE).await.unwrap(),
        before,
        "with the port that port 0 had become"
    );
    let hits = b.hits();
    let mut conn = Conn::open(addr).await;
    for _ in 0..100 {
        assert_eq!(conn.get("/").await.status, 200);
    }
    assert_eq!(b.hits() - hits, 25);
    assert!(
        proxy.admin.put(PutArgs { epoch: 2, ..put(a.addr, None) }).await.is_err(),
        "the epoch survives too"
    );

    proxy.admin.remove(ROUTE, holder(3)).await.unwrap();
    let proxy = proxy.restart().await;
    assert_eq!(proxy.admin.list().await.unwrap(), []);
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight() {
    let slow = Upstream::start(|_| async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        text(200, "finished")
    })
    .await;
    let mut proxy = Proxy::start().await;
    let addr = proxy.put(put(slow.addr, None)).await;
    let mut idle = Conn::open(addr).await;
    idle.get("/").await;
    let running = tokio::spawn(get(addr, "/"));
    proxy.side_when(SideName::A, |stats| stats.in_flight == 1).await;
    proxy.terminate();
    let got = running.await.unwrap();
    assert_eq!(got.text(), "finished");
    assert!(proxy.exited().await.success());
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

fn start_fails(dir: &std::path::Path) -> String {
    let output = Command::new(program()).arg(dir).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_damaged_file_is_kept_aside_and_said() {
    let a = Upstream::named("a").await;
    let mut proxy = Proxy::start().await;
    proxy.put(put(a.addr, None)).await;
    proxy.kill();
    let file = proxy.dir.join("routes.json");
    let whole = std::fs::read(&file).unwrap();
    for cut in [0, 1, whole.len() / 2, whole.len() - 3] {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let said = start_fails(&proxy.dir);
        assert!(said.contains("failed to read") && said.contains("kept as"), "{said}");
        assert!(!file.exists());
        let kept: Vec<_> = std::fs::read_dir(&proxy.dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("routes.json.damaged-"))
            .collect();
        assert_eq!(kept.len(), 1);
        assert_eq!(std::fs::read(&kept[0]).unwrap(), whole[..cut]);
        std::fs::remove_file(&kept[0]).unwrap();
    }
    let proxy = proxy.restart_dead().await;
    assert_eq!(proxy.admin.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_newer_file_is_left_alone() {
    let a = Upstream::named("a").await;
    let mut proxy = Proxy::start().await;
    proxy.put(put(a.addr, None)).await;
    proxy.kill();
    let file = proxy.dir.join("routes.json");
    let newer = r#"{"format":2,"other":"things"}"#;
    std::fs::write(&file, newer).unwrap();
    let said = start_fails(&proxy.dir);
    assert!(said.contains("format 2 is newer"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), newer);
}

#[tokio::test]
async fn a_route_whose_port_is_taken_comes_back_when_it_is_free() {
    let a = Upstream::named("a").await;
    let mut proxy = Proxy::start().await;
    let addr = proxy.put(put(a.addr, None)).await;
    proxy.kill();
    let taken = tokio::net::TcpListener::bind(addr).await.unwrap();
    let proxy = proxy.restart_dead().await;
    assert_eq!(proxy.admin.get(ROUTE).await.unwrap().bound, None);
    drop(taken);
    proxy.route_when(|route| route.bound == Some(addr)).await;
    assert_eq!(get(addr, "/").await.text(), "a");
}

#[tokio::test]
async fn an_idle_proxy_ends_by_itself_if_told() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("proxy");
    let mut proxy = Proxy::start_with(dir, Some(home), &["--exit-when-idle"]).await;
    let a = Upstream::named("a").await;
    proxy.put(PutArgs { weights: weights(0, 0), ..put(a.addr, None) }).await;
    proxy.admin.remove(ROUTE, holder(1)).await.unwrap();
    assert!(proxy.exited().await.success());
}
