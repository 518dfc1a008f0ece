//! The server ends at once, as with `pg_ctl stop -m immediate`, while somebody writes, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use backout_core::ports::{AppendError, Ledger};
use backout_ledger::{DatabaseUrl, OpenMode, PostgresLedger, holder_for_this_process};
use backout_testkit::ledger::samples;
use backout_testkit::ledger::suite::Leased;
use backout_testkit::postgres::{PostgresServer, Setup};

use crate::harness::logged;

/// Goes on while the server restarts under it, and counts commits that were acknowledged.
async fn append_all_the_time(
    leased: Leased,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> Leased {
    let operation = samples::operation("one");
    let mut length = 1;
    while !stop.load(Ordering::SeqCst) {
        let commit = leased.entries("one", length, &["a", "b"]);
        let result = leased.ledger.commit(&leased.lease, &[commit]).await;
        // An answer of either kind is right about what is there.
        let expected = match &result {
            Ok(()) => Some(length + 2),
            Err(AppendError::Unavailable(error)) if error.to_string().contains("not known") => None,
            Err(AppendError::Unavailable(_)) => Some(length),
            Err(other) => panic!("{other:?}"),
        };
        let found = loop {
            match leased.ledger.journal_length(&operation).await {
                Ok(found) => break found,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        assert!(found == length || found == length + 2, "{found} after {length}");
        assert_eq!(found, expected.unwrap_or(found), "{result:?}");
        length = found;
        if result.is_ok() {
            done.fetch_add(1, Ordering::SeqCst);
        }
    }
    leased
}

/// Waits until two more commits were acknowledged.
async fn goes_on(done: &AtomicU64) {
    let before = done.load(Ordering::SeqCst);
    let more = async {
        while done.load(Ordering::SeqCst) < before + 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), more).await.expect("the writer goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_crashes_of_the_server() {
    let setup = Setup { durable: true, ..Setup::default() };
    let mut server = tokio::task::block_in_place(|| PostgresServer::start(&setup));
    let database = server.database();
    let url: DatabaseUrl = server.url(&database).parse().unwrap();
    let ledger = PostgresLedger::connect(&url, OpenMode::ReadWrite).await.unwrap();
    assert_eq!(ledger.careless_settings().await.unwrap(), Vec::<String>::new());
    let ledger: Arc<dyn Ledger> = Arc::new(ledger);
    let holder = holder_for_this_process("deploy", false).unwrap();
    let lease = ledger.claim(&samples::key("shop", "production"), &holder).await.unwrap();
    let leased = Leased { ledger, lease, holder };
    leased.open("one").await;
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn(append_all_the_time(leased, stop.clone(), done.clone()));
    for round in 0..6_u64 {
        goes_on(&done).await;
        // At another point of a commit each time.
        tokio::time::sleep(Duration::from_micros(round * 370)).await;
        tokio::task::block_in_place(|| {
            server.stop_at_once();
            server.start_again();
        });
    }
    goes_on(&done).await;
    stop.store(true, Ordering::SeqCst);
    let leased = writer.await.unwrap();
    let length = leased.ledger.journal_length(&samples::operation("one")).await.unwrap();
    let ledger = PostgresLedger::connect(&url, OpenMode::ReadOnly).await.unwrap();
    assert_eq!(logged(&ledger).await, length);
    // The lease was kept by the one who has it.
    leased.ledger.renew(&leased.lease).await.unwrap();
}
