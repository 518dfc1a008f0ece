//! Futures that are dropped half-way: by a deadline, a signal, a `select!`.

use std::time::Duration;

use backout_core::ports::{Change, Commit};
use backout_testkit::ledger::samples;
use backout_testkit::ledger::suite::Leased;

use crate::harness::{fresh, logged};

#[tokio::test]
async fn a_dropped_commit_is_whole_or_not_there() {
    let harness = fresh().await;
    let leased = Leased::new(&harness).await;
    leased.open("one").await;
    let operation = samples::operation("one");
    let (mut done, mut dropped) = (0, 0);
    for round in 0..200_u64 {
        let length = leased.ledger.journal_length(&operation).await.unwrap();
        let changes =
            vec![Change::Outbox(samples::message("x")), Change::Outbox(samples::message("y"))];
        let commit = Commit { changes, ..leased.entries("one", length, &["a", "b"]) };
        let deadline = Duration::from_micros(round % 40 * 25);
        match tokio::time::timeout(deadline, leased.ledger.commit(&leased.lease, &[commit])).await {
            Ok(result) => {
                result.unwrap();
                done += 1;
            }
            Err(_) => dropped += 1,
        }
    }
    assert!(dropped > 0, "{done} done, none dropped");
    let entries = leased.ledger.entries(&operation).await.unwrap().len();
    let messages = leased.ledger.outbox(u32::MAX).await.unwrap().len();
    assert_eq!(entries, messages + 1, "two of each, and the first");
    assert!(entries > 2 * done, "{entries} entries after {done} commits");
    assert_eq!(logged(harness.sqlite()).await, entries as u64);
    // The lock is free.
    leased.commit(&[leased.entries("one", entries as u64, &["after"])]).await;
}

#[tokio::test]
async fn a_dropped_read_costs_nothing() {
    let harness = fresh().await;
    let leased = Leased::new(&harness).await;
    leased.open("one").await;
    let operation = samples::operation("one");
    for round in 0..50_u64 {
        let read = leased.ledger.entries(&operation);
        let _ = tokio::time::timeout(Duration::from_micros(round * 5), read).await;
        assert_eq!(leased.ledger.entries(&operation).await.unwrap().len(), 1);
    }
    leased.ledger.renew(&leased.lease).await.unwrap();
}
