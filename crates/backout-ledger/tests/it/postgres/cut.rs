//! The connection is cut at each message that a call sends: before it, right after it, and after the server's answer.

use std::sync::Arc;

use backout_core::ports::{AppendError, Change, Commit, Ledger};
use backout_ledger::{DatabaseUrl, OpenError, OpenMode, PostgresLedger};
use backout_testkit::ledger::samples;
use backout_testkit::ledger::suite::{Leased, LedgerHarness};
use backout_testkit::postgres::{Cut, Proxy, shared};

use super::harness::{Harness, fresh, open_at};
use crate::harness::logged;

/// No call sends more.
const MOST_MESSAGES: u32 = 400;

/// A ledger behind a proxy, and the same one directly.
struct Behind {
    harness: Harness,
    proxy: Proxy,
    ledger: Arc<PostgresLedger>,
}

impl Behind {
    async fn new() -> Self {
        let harness = fresh().await;
        let proxy = Proxy::new(shared());
        let ledger = Arc::new(open_at(&proxy.url(harness.database()), &harness).await);
        Self { harness, proxy, ledger }
    }
}

/// Runs `call` with a cut at each of its messages, by each manner. Returns how many cuts there were.
macro_rules! at_each_message {
    ($proxy:expr, |$pass:ident, $cut:ident| $call:block) => {{
        let mut cuts = 0;
        for $cut in Cut::ALL {
            for $pass in 0.. {
                assert!($pass < MOST_MESSAGES, "it never ends");
                $proxy.arm($pass, $cut);
                $call;
                if !$proxy.disarm() {
                    break;
                }
                cuts += 1;
            }
        }
        cuts
    }};
}

#[tokio::test]
async fn a_commit_is_there_once_or_not_at_all() {
    let behind = Behind::new().await;
    let leased = Leased::new(&behind.harness).await;
    leased.open("one").await;
    let operation = samples::operation("one");
    let (mut length, mut failed) = (1, 0);
    let cuts = at_each_message!(behind.proxy, |pass, cut| {
        let changes = vec![Change::Outbox(samples::message(&format!("{cut:?} {pass}")))];
        let commit = Commit {
            changes,
            ..leased.entries("one", length, &[&format!("{cut:?} {pass} a"), "b", "c"])
        };
        let result = behind.ledger.commit(&leased.lease, &[commit]).await;
        match result {
            Ok(()) => length += 3,
            Err(AppendError::Unavailable(_)) => failed += 1,
            Err(other) => panic!("{cut:?} of message {pass}: {other:?}"),
        }
        let found = leased.ledger.journal_length(&operation).await.unwrap();
        assert_eq!(found, length, "{cut:?} of message {pass}");
        let messages = leased.ledger.outbox(u32::MAX).await.unwrap().len() as u64;
        assert_eq!(messages * 3 + 1, length, "{cut:?} of message {pass}");
    });
    assert!(cuts > 30, "{cuts} cuts");
    // A connection that comes back is no reason to fail.
    assert_eq!(failed, 0, "of {cuts}");
    assert_eq!(logged(behind.ledger.as_ref()).await, length);
}

#[tokio::test]
async fn a_claim_is_granted_once() {
    let behind = Behind::new().await;
    let key = samples::key("shop", "production");
    let mut epoch = 0;
    let cuts = at_each_message!(behind.proxy, |pass, cut| {
        let holder = behind.harness.holder();
        let lease = behind.ledger.claim(&key, &holder).await.unwrap();
        epoch += 1;
        assert_eq!(lease.epoch, epoch, "{cut:?} of message {pass}");
        let view = behind.harness.ledger().lease(&key).await.unwrap().unwrap();
        assert_eq!((view.epoch, &view.holder, view.alive), (epoch, &holder, true));
        behind.harness.kill(&holder);
    });
    assert!(cuts > 15, "{cuts} cuts");
}

#[tokio::test]
async fn a_renewal_and_a_release_are_done() {
    let behind = Behind::new().await;
    let leased = Leased::new(&behind.harness).await;
    let half = behind.harness.term_ms() / 2;
    at_each_message!(behind.proxy, |pass, cut| {
        behind.harness.advance_ms(half);
        let result = behind.ledger.renew(&leased.lease).await;
        assert_eq!(result, Ok(()), "{cut:?} of message {pass}");
        let view = leased.ledger.lease(leased.key()).await.unwrap().unwrap();
        assert!(view.alive, "{cut:?} of message {pass}");
    });
    behind.proxy.arm(2, Cut::AnswerLost);
    behind.ledger.release(&leased.lease).await.unwrap();
    assert!(!leased.ledger.lease(leased.key()).await.unwrap().unwrap().alive);
}

#[tokio::test]
async fn what_needs_no_lease_is_kept_once() {
    let behind = Behind::new().await;
    let (key, operation) = (samples::key("shop", "production"), samples::operation("one"));
    let mut number = 0;
    at_each_message!(behind.proxy, |pass, cut| {
        number += 1;
        let request = samples::request(&key, &operation, &format!("n{number}"));
        behind.ledger.submit(&request).await.unwrap();
        let pending = behind.harness.ledger().pending_requests(&operation).await.unwrap();
        assert_eq!(pending.len(), number, "{cut:?} of message {pass}");
        assert_eq!(pending.last(), Some(&request));
    });
    at_each_message!(behind.proxy, |pass, cut| {
        let bytes = format!("{cut:?} {pass}").into_bytes();
        let digest = behind.ledger.put_blob(&bytes).await.unwrap();
        assert_eq!(behind.harness.ledger().blob(&digest).await.unwrap(), Some(bytes));
    });
    at_each_message!(behind.proxy, |pass, cut| {
        let pending = behind.ledger.pending_requests(&operation).await.unwrap();
        assert_eq!(pending.len(), number, "{cut:?} of message {pass}");
    });
    assert_eq!(logged(behind.ledger.as_ref()).await, 0);
}

#[tokio::test]
async fn a_ledger_is_made_whole_or_not_at_all() {
    let server = shared();
    let proxy = Proxy::new(server);
    for cut in [Cut::Before, Cut::AnswerLost] {
        for pass in 0.. {
            assert!(pass < MOST_MESSAGES, "it never ends");
            let database = server.database();
            proxy.arm(pass, cut);
            let url: DatabaseUrl = proxy.url(&database).parse().unwrap();
            let first = PostgresLedger::connect(&url, OpenMode::ReadWrite).await;
            let fired = proxy.disarm();
            let direct: DatabaseUrl = server.url(&database).parse().unwrap();
            let there = match PostgresLedger::connect(&direct, OpenMode::ReadOnly).await {
                Ok(ledger) => Some(ledger.id().await.unwrap()),
                Err(OpenError::NoLedger(_)) => None,
                Err(other) => panic!("{cut:?} of message {pass}: {other:?}"),
            };
            if let Ok(first) = &first {
                assert_eq!(Some(first.id().await.unwrap()), there);
            }
            let again = PostgresLedger::connect(&direct, OpenMode::ReadWrite).await.unwrap();
            if let Some(id) = there {
                assert_eq!(again.id().await.unwrap(), id, "{cut:?} of message {pass}");
            }
            assert_eq!(logged(&again).await, 0);
            if !fired {
                assert!(pass > 10 && first.is_ok(), "{pass} messages");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_dropped_commit_is_seen_by_whoever_comes_next() {
    let behind = Behind::new().await;
    let leased = Leased::new(&behind.harness).await;
    leased.open("one").await;
    let operation = samples::operation("one");
    let mut dropped = 0;
    for round in 0..120_u64 {
        let length = behind.ledger.journal_length(&operation).await.unwrap();
        let commit = leased.entries("one", length, &["a", "b"]);
        let deadline = std::time::Duration::from_micros(round % 40 * 100);
        match tokio::time::timeout(deadline, behind.ledger.commit(&leased.lease, &[commit])).await {
            Ok(result) => result.unwrap(),
            Err(_) => dropped += 1,
        }
        // What the next look shows stays so.
        let seen = behind.ledger.journal_length(&operation).await.unwrap();
        assert!(seen == length || seen == length + 2, "{seen} after {length}");
        behind.ledger.renew(&leased.lease).await.unwrap();
        assert_eq!(behind.ledger.journal_length(&operation).await.unwrap(), seen);
    }
    assert!(dropped > 0);
    let length = leased.ledger.journal_length(&operation).await.unwrap();
    assert_eq!(logged(behind.ledger.as_ref()).await, length);
}
