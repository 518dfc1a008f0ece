//! Sticky routing with the real binary: clients stay where they are, and each of them counts once.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::{Service, World, Yaml, wait_until};

/// Clients that meet a bad release before it is taken out: what it takes to be sure, and what is in flight.
const FEW: u64 = 15;

/// One client with its cookie.
#[derive(Default)]
struct Client {
    cookie: Option<String>,
}

impl Client {
    /// Status and body of a request over a connection of its own.
    fn get(&mut self, port: u16, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let cookie = self.cookie.iter().map(|cookie| format!("Cookie: {cookie}\r\n"));
        let cookie: String = cookie.collect();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: shop.test\r\n{cookie}Connection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let cut_off = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut_off)?;
        for line in head.lines() {
            if let Some(("set-cookie", value)) = line.split_once(": ") {
                self.cookie = value.split(';').next().map(str::to_owned);
            }
        }
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.ok_or_else(cut_off)?, body.trim().to_owned()))
    }
}

/// Clients that ask all the time. Ends when dropped.
struct Clients {
    stop: Arc<AtomicBool>,
    /// Clients that ever got an error.
    failed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn of(world: &World, count: usize) -> Self {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..2)
            .map(|_| {
                let (stop, failed, port) = (stop.clone(), failed.clone(), world.listen);
                std::thread::spawn(move || {
                    let mut clients: Vec<_> =
                        (0..count / 2).map(|_| (Client::default(), false)).collect();
                    for index in (0..clients.len()).cycle() {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let (client, has_failed) = &mut clients[index];
                        let failure = client.get(port, "/").map_or(true, |(code, _)| code >= 500);
                        if failure && !std::mem::replace(has_failed, true) {
                            failed.fetch_add(1, Ordering::SeqCst);
                        }
                        std::thread::sleep(Duration::from_millis(3));
                    }
                })
            })
            .collect();
        Self { stop, failed, threads }
    }

    fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn sticky(stages: &str) -> Yaml {
    Yaml {
        router: r#"{ builtin: { listen: "127.0.0.1:LISTEN", dead_man: 10m } }"#.to_owned(),
        strategy: format!("{{ canary: {{ sticky: true, {stages} }} }}"),
        ..Yaml::default()
    }
}

/// A client of the new side.
fn client_of(world: &World, version: &str) -> Client {
    loop {
        let mut client = Client::default();
        if client.get(world.listen, "/").unwrap().1 == version {
            return client;
        }
    }
}

#[test]
fn one_abusive_client_takes_no_healthy_release_back() {
    // Both versions fail at one path, which nobody asks for but the abuser.
    let world = World::new(&sticky("stages: [20, 60], hold: 2s, hold_max: 10m"));
    let flags = "--fail-path /abuse";
    world.build(Service { flags, ..Service::default() });
    world.deployed("v1");
    world.build(Service { flags, before: ": another", ..Service::default() });
    let users = Clients::of(&world, 60);
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_20");
    let mut abuser = client_of(&world, "v2");
    let failures = AtomicU64::new(0);
    let ended = AtomicBool::new(false);
    let ran = std::thread::scope(|scope| {
        let abuse = || {
            while !ended.load(Ordering::SeqCst) {
                let (status, body) = abuser.get(world.listen, "/abuse").unwrap();
                assert_eq!((status, body.as_str()), (500, "v2 failed"), "it stays on its side");
                failures.fetch_add(1, Ordering::SeqCst);
            }
        };
        let abusing = scope.spawn(abuse);
        let ran = deploy.wait();
        ended.store(true, Ordering::SeqCst);
        abusing.join().unwrap();
        ran
    });
    ran.expect(0);
    assert_eq!(users.failed(), 0);
    assert_eq!(world.row(2)["status"], "stable");
    let failures = failures.into_inner();
    assert!(failures > 100, "it did abuse: {failures}");
    world.expect_serving("v2");
}

#[test]
fn a_bad_release_is_taken_back_after_a_few_clients() {
    let world = World::new(&sticky("stages: [20], hold: 10m, hold_max: 20m"));
    world.deployed("v1");
    world.build(Service { flags: "--fail-percent 100", ..Service::default() });
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_20");
    let users = Clients::of(&world, 200);
    let ran = deploy.wait().expect(10);
    let failed = users.failed();
    assert!((2..=FEW).contains(&failed), "{failed} clients: {ran:?}");
    let row = world.row(2);
    assert_eq!((row["status"].as_str(), &row["rejected"]), (Some("rolled_back"), &true.into()));
    assert_eq!(world.row(3)["trigger"], "analysis");
    drop(users);
    world.expect_serving("v1");
}

#[test]
fn with_nobody_watching_the_proxy_counts_clients_too() {
    let world = World::new(&sticky("stages: [20], hold: 10m, hold_max: 20m"));
    world.deployed("v1");
    world.build(Service { flags: "--fail-percent 100", ..Service::default() });
    let deploy = world.deploying("v2");
    world.wait_for_step("hold_20");
    deploy.signal(rustix::process::Signal::KILL);
    deploy.wait();
    // One client of the new side can ask as often as it likes: nothing is beyond doubt.
    let mut versions = BTreeMap::new();
    let mut lone = Client::default();
    while lone.get(world.listen, "/").unwrap().0 == 200 {
        lone.cookie = None;
    }
    for _ in 0..200 {
        *versions.entry(lone.get(world.listen, "/").unwrap().1).or_insert(0) += 1;
    }
    assert_eq!(versions, BTreeMap::from([("v2 failed".to_owned(), 200)]));
    assert_eq!(world.status()["trip"]["fired"], serde_json::Value::Null);
    let users = Clients::of(&world, 200);
    wait_until("the trip", || world.status()["trip"]["fired"]["moved"] == true);
    assert!((1..=FEW).contains(&users.failed()), "{}", users.failed());
    assert_eq!(lone.get(world.listen, "/").unwrap(), (200, "v1".to_owned()));
    drop(users);
    world.run(&["recover", "--yes"]).expect(10);
    assert_eq!(world.row(2)["rejected"], true);
    world.expect_serving("v1");
}
