//! Links that break, at any byte, or just fall silent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backout_adapters::host::{SshHost, SshOptions};
use backout_core::ports::{ErrorClass, Host, HostEnded};
use backout_testkit::sshd::SshServers;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::world::{World, change, look, options};

/// Begins and ends are told apart, so that two at a time would be seen.
const WORK: &str = "echo begin >> log; sleep 0.15; echo end >> log";

fn assert_one_at_a_time(log: &str) {
    let mut open = 0;
    for line in log.lines() {
        open += if line == "begin" { 1 } else { -1 };
        assert!((0..=1).contains(&open), "two at a time: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_cut_at_any_byte_leaves_a_step_that_can_be_repeated() {
    let mut servers = SshServers::start(1);
    let relay = servers.relay(0);
    let world = World::on(servers);
    let host = || SshHost::new(options(&world.servers, 0));
    // What a connection takes, and what a command takes on one that stands.
    let before = relay.passed();
    world.run(&look("true")).await;
    let connection = relay.passed() - before;
    world.run(&change(WORK, "measured")).await;
    let command = relay.passed() - before - connection;
    world.host.close().await;
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut draw = |limit: u64| {
        use proptest::prelude::Rng as _;
        rng.next_u64() % limit
    };
    let mut seen = [0; 3];
    for round in 0..12 {
        let _ = std::fs::remove_file(world.folder().join("log"));
        let host = host();
        if round % 3 == 0 {
            relay.cut_after(draw(connection));
        } else {
            host.run(&look("true")).await.unwrap();
            relay.cut_after(draw(command));
        }
        let step = format!("step-{round}");
        let result = host.run(&change(WORK, &step)).await;
        match &result {
            Ok(output) => {
                seen[0] += 1;
                assert_eq!(output.ended, HostEnded::Exited(0));
            }
            Err(error) if error.class == ErrorClass::Unknown => seen[1] += 1,
            Err(error) => {
                seen[2] += 1;
                assert_eq!(error.class, ErrorClass::Transient, "{error}");
                assert_eq!(world.read("log"), "", "nothing happened: {error}");
            }
        }
        relay.restore();
        let again = host.run(&change(WORK, &step)).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(again.ended, HostEnded::Exited(0));
        assert_one_at_a_time(&world.read("log"));
        assert!(world.read("log").contains("end"));
        host.close().await;
    }
    assert!(seen[1] > 0 && seen[2] > 0, "the cuts hit both sides of the start: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_link_broke_goes_on_and_is_joined() {
    let world = World::new();
    let line =
        "echo begin >> log; while [ ! -e go ]; do sleep 0.05; done; echo done >> log; echo said";
    let host = world.host.clone();
    let first = tokio::spawn(async move { host.run(&change(line, "1")).await });
    world.until("it has begun", |world| world.has("log")).await;
    world.servers.kill_sessions(0);
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(error.class, ErrorClass::Unknown, "{error}");
    assert!(world.host.is_at_work(&world.unit()).await.unwrap());
    let host = world.host.clone();
    let second = tokio::spawn(async move { host.run(&change(line, "1")).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.write("go", "");
    let output = second.await.unwrap().unwrap();
    assert_eq!((output.ended, output.stdout.as_slice()), (HostEnded::Exited(0), &b"said\n"[..]));
    assert_eq!(world.read("log"), "begin\ndone\n", "it ran once");
    assert!(!world.host.is_at_work(&world.unit()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_seen_in_bounded_time_and_passes() {
    let mut servers = SshServers::start(1);
    let relay = servers.relay(0);
    // Quick to notice that a link is gone.
    let quick = SshOptions {
        alive_interval: Duration::from_secs(2),
        alive_count: 2,
        ..options(&servers, 0)
    };
    let world = World::with(servers, quick);
    let host = world.host.clone();
    let line = "echo begin >> log; while [ ! -e go ]; do sleep 0.05; done";
    let waits = tokio::spawn(async move { host.run(&change(line, "1")).await });
    world.until("it has begun", |world| world.has("log")).await;
    relay.swallow();
    let began = Instant::now();
    let error = tokio::time::timeout(Duration::from_secs(60), waits).await.unwrap().unwrap();
    let error = error.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unknown, "{error}");
    assert!(began.elapsed() < Duration::from_secs(30), "long before the command's own limit");
    // A look is never unknown. Nobody gets through, so it takes as long as a connection may.
    let host = Arc::new(SshHost::new(SshOptions {
        connect_timeout: Duration::from_secs(1),
        ..options(&world.servers, 0)
    }));
    let error = host.run(&look("true")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    relay.restore();
    world.write("go", "");
    // Another holder comes after longer than a lease: the older one is fenced on the host.
    let mut newer = change("echo newer >> log", "2");
    newer.change.as_mut().unwrap().epoch = 2;
    assert_eq!(world.run(&newer).await.ended, HostEnded::Exited(0));
    let error = world.host.run(&change("echo older >> log", "3")).await.unwrap_err();
    assert!(error.class == ErrorClass::Permanent && error.message.contains("epoch 2"), "{error}");
    assert_eq!(world.read("log"), "begin\nnewer\n");
}
