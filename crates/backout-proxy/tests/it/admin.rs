//! Who may command what, and what is refused.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::Duration,
};

use backout_proxy::{
    client::{AdminClient, AdminError, Certainty},
    wire::{Fault, Holder, Owner, PutArgs, SideName},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, UnixStream},
};

use crate::support::{
    Proxy, ROUTE,
    client::{Conn, get},
    holder, program, put, split,
    upstream::Upstream,
    weights,
};

fn fault<T: std::fmt::Debug>(result: Result<T, AdminError>) -> Fault {
    match result {
        Err(AdminError::Refused(fault)) => fault,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_older_epoch_and_another_ledger_are_refused() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let proxy = Proxy::start().await;
    let addr = proxy.put(PutArgs { epoch: 5, ..split(a.addr, b.addr, 50) }).await;
    let admin = &proxy.admin;
    let stale = Fault::StaleEpoch { current: 5 };
    assert_eq!(fault(admin.put(PutArgs { epoch: 4, ..put(b.addr, None) }).await), stale);
    assert_eq!(fault(admin.remove(ROUTE, holder(4)).await), stale);
    assert_eq!(fault(admin.renew(ROUTE, holder(4), 1000).await), stale);
    let wait = Duration::from_millis(10);
    assert_eq!(fault(admin.drain(ROUTE, SideName::A, holder(4), wait, true).await), stale);
    assert_eq!(
        fault(admin.drain(ROUTE, SideName::A, holder(5), wait, true).await),
        Fault::HasWeight { side: SideName::A, percent: 50 }
    );

    let owner = Owner {
        ledger: "ledger-2".to_owned(),
        app: "shop".to_owned(),
        environment: "production".to_owned(),
    };
    let foreign = PutArgs { epoch: 9, owner, ..put(b.addr, None) };
    let not_owner = Fault::NotOwner { ledger: "ledger-1".to_owned() };
    assert_eq!(fault(admin.put(foreign.clone()).await), not_owner);
    let other = Holder { ledger: Some("ledger-2".to_owned()), epoch: 9 };
    assert_eq!(fault(admin.remove(ROUTE, other.clone()).await), not_owner);
    let unchanged = admin.get(ROUTE).await.unwrap();
    assert_eq!((unchanged.epoch, unchanged.weights), (5, weights(50, 50)));

    // A newer epoch counts from its first command on, over a restart too.
    let refused = admin.renew(ROUTE, holder(6), 1000).await;
    assert_eq!(fault(refused), Fault::NotArmed);
    proxy
        .put(crate::support::armed(PutArgs { epoch: 5, ..split(a.addr, b.addr, 50) }, 60_000))
        .await;
    admin.renew(ROUTE, holder(7), 60_000).await.unwrap();
    let proxy = proxy.restart().await;
    let admin = &proxy.admin;
    let older = admin.put(PutArgs { epoch: 6, ..put(b.addr, None) }).await;
    assert_eq!(fault(older), Fault::StaleEpoch { current: 7 });

    // Knowingly taken over; the epochs of two ledgers are not compared.
    admin.put(PutArgs { epoch: 1, take_over: true, ..foreign }).await.unwrap();
    assert_eq!(get(addr, "/").await.text(), "b");
    assert_eq!(
        fault(admin.remove(ROUTE, holder(9)).await),
        Fault::NotOwner { ledger: "ledger-2".to_owned() }
    );
    admin.remove(ROUTE, Holder { epoch: 1, ..other }).await.unwrap();
    assert_eq!(fault(admin.get(ROUTE).await), Fault::NoSuchRoute { route: ROUTE.to_owned() });
}

#[tokio::test]
async fn a_port_in_use_is_refused_and_nothing_changes() {
    let a = Upstream::named("a").await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap();
    let proxy = Proxy::start().await;
    let refused = proxy.admin.put(PutArgs { listen, ..put(a.addr, None) }).await.unwrap_err();
    assert_eq!(refused.certainty(), Certainty::Transient);
    assert_eq!(refused.fault(), Some(&Fault::PortInUse { addr: listen }));
    assert_eq!(proxy.admin.list().await.unwrap(), []);

    // The same for a route that moves: it stays where it was.
    let addr = proxy.put(put(a.addr, None)).await;
    let moved = PutArgs { listen, epoch: 2, weights: weights(0, 0), ..put(a.addr, None) };
    assert_eq!(fault(proxy.admin.put(moved.clone()).await), Fault::PortInUse { addr: listen });
    assert_eq!(proxy.admin.get(ROUTE).await.unwrap().epoch, 1);
    assert_eq!(get(addr, "/").await.text(), "a");
    drop(taken);
    let mut kept = Conn::open(addr).await;
    kept.get("/").await;
    assert_eq!(proxy.put(PutArgs { weights: weights(100, 0), ..moved }).await, listen);
    assert_eq!(get(listen, "/").await.text(), "a");
    assert_eq!(kept.get("/").await.text(), "a", "connections of the old address live on");
    // The workers close the old address after the acknowledgement.
    let mut refused = false;
    for _ in 0..1000 {
        refused = tokio::net::TcpStream::connect(addr).await.is_err();
        if refused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refused, "the old address still listens");
}

#[tokio::test]
async fn commands_that_make_no_sense_are_refused() {
    let a = Upstream::named("a").await;
    let proxy = Proxy::start().await;
    let good = || put(a.addr, None);
    for (why, bad) in [
        ("sum", PutArgs { weights: weights(60, 0), ..good() }),
        ("sum above 255", PutArgs { weights: weights(200, 156), ..good() }),
        ("weight without release", PutArgs { weights: weights(50, 50), ..good() }),
        ("key", PutArgs { route: "shop/web".to_owned(), ..good() }),
        ("foreign key", PutArgs { route: "other/production/web".to_owned(), ..good() }),
        ("time-out", PutArgs { response_timeout_ms: Some(0), ..good() }),
        ("loop", PutArgs { listen: a.addr, ..good() }),
    ] {
        assert!(matches!(fault(proxy.admin.put(bad).await), Fault::Invalid { .. }), "{why}");
    }
    assert_eq!(proxy.admin.list().await.unwrap(), []);
    assert_eq!(
        fault(proxy.admin.remove(ROUTE, holder(1)).await),
        Fault::NoSuchRoute { route: ROUTE.to_owned() }
    );
}

#[tokio::test]
async fn the_socket_survives_nonsense() {
    let proxy = Proxy::start().await;
    let socket = proxy.dir.join("admin.sock");
    for (sent, wanted) in [
        ("nonsense\n".to_owned(), "\"code\":\"invalid\""),
        (
            "{\"v\":1,\"id\":3,\"cmd\":\"fly\"}\n".to_owned(),
            "\"id\":3,\"error\":{\"code\":\"invalid\"",
        ),
        (
            "{\"v\":2,\"id\":4,\"cmd\":\"hello\"}\n".to_owned(),
            "\"code\":\"unsupported_version\",\"supported\":1",
        ),
        (format!("{}\n", "x".repeat((1 << 20) + 10)), "at most 1048576 bytes"),
        ("{\"v\":1,\"id\":5,\"cmd\":\"list\"}\n".to_owned(), "\"id\":5,\"ok\":[]"),
    ] {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        let (read, mut write) = stream.split();
        // A line that is too long is answered before it is read to its end.
        let _ = write.write_all(sent.as_bytes()).await;
        let mut answer = String::new();
        BufReader::new(read).read_line(&mut answer).await.unwrap();
        assert!(answer.contains(wanted), "{answer}");
    }
    proxy.admin.hello().await.unwrap();
}

#[tokio::test]
async fn one_process_per_folder_and_private_files() {
    let proxy = Proxy::start().await;
    let second = Command::new(program()).arg(&proxy.dir).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(said.contains("another one already runs"), "{said}");
    assert!(said.contains(&format!("(pid {})", proxy.admin.greeting().pid)), "{said}");
    let upstream = Upstream::named("a").await;
    proxy.put(put(upstream.addr, None)).await;
    let mode =
        |name: &str| std::fs::metadata(proxy.dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for name in ["admin.sock", "proxy.lock", "pid", "routes.json"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert_eq!(proxy.admin.hello().await.unwrap(), *proxy.admin.greeting());
}

#[tokio::test]
async fn a_folder_longer_than_a_socket_path_works() {
    let home = tempfile::tempdir().unwrap();
    let mut dir = home.path().to_owned();
    for _ in 0..6 {
        dir.push("a-rather-long-name-of-a-state-folder");
    }
    dir.push("proxy");
    let proxy = Proxy::start_in(dir, Some(home)).await;
    let a = Upstream::named("a").await;
    let addr = proxy.put(put(a.addr, None)).await;
    assert_eq!(get(addr, "/").await.text(), "a");
}

#[tokio::test]
async fn no_proxy_is_told_apart_from_a_refusal() {
    let home = tempfile::tempdir().unwrap();
    for dir in [home.path().to_owned(), home.path().join("missing")] {
        let error = AdminClient::connect(&dir).await.unwrap_err();
        assert!(matches!(error, AdminError::NotRunning { .. }), "{error:?}");
        assert_eq!(error.certainty(), Certainty::Transient);
    }
    let mut proxy = Proxy::start().await;
    proxy.kill();
    let error = proxy.admin.list().await.unwrap_err();
    assert!(matches!(error, AdminError::NotRunning { .. }), "{error:?}");
}

#[tokio::test]
async fn it_stops_only_when_asked_properly() {
    let a = Upstream::named("a").await;
    let mut proxy = Proxy::start().await;
    let addr = proxy.put(put(a.addr, None)).await;
    assert_eq!(fault(proxy.admin.shutdown(true).await), Fault::NotIdle { routes: 1 });
    let mut frames = proxy.admin.subscribe(ROUTE, Duration::from_secs(60)).await.unwrap();
    frames.next().await.unwrap().unwrap();
    proxy.admin.remove(ROUTE, holder(1)).await.unwrap();
    assert!(frames.next().await.is_none(), "the stream ends with the route");
    let mut gone = false;
    for _ in 0..1000 {
        gone = tokio::net::TcpStream::connect(addr).await.is_err();
        if gone {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(gone, "a removed route still listens");
    proxy.admin.shutdown(true).await.unwrap();
    assert!(proxy.exited().await.success());
    assert!(!proxy.dir.join("admin.sock").exists() && !proxy.dir.join("pid").exists());
}

#[tokio::test]
async fn a_start_waits_for_one_that_is_stopping() {
    let mut old = Proxy::start().await;
    let pid = old.admin.greeting().pid;
    old.terminate();
    while AdminClient::connect(&old.dir).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let new = Proxy::start_in(old.dir.clone(), None).await;
    assert_ne!(new.admin.greeting().pid, pid);
    assert!(old.exited().await.success());
    new.admin.hello().await.unwrap();
    assert!(new.dir.join("admin.sock").exists() && new.dir.join("pid").exists());
}
