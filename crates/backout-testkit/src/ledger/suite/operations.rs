//! Operations: one open per environment.

use backout_core::ports::{AppendError, Change, Commit};

use super::{Leased, LedgerHarness};
use crate::ledger::samples;

/// The second one conflicts with the first, which it names.
pub async fn one_is_open_at_a_time(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    assert_eq!(leased.ledger.open_operation(leased.key()).await.unwrap(), None);
    leased.open("one").await;
    let open = leased.changes(vec![Change::Open(Box::new(leased.plan("two")))]);
    let result = leased.ledger.commit(&leased.lease, &[open]).await;
    let conflict =
        AppendError::Conflict { operation: samples::operation("one"), expected: 0, found: 1 };
    assert_eq!(result, Err(conflict));
    assert_eq!(leased.ledger.open_operation(leased.key()).await.unwrap(), Some(leased.plan("one")));
    assert_eq!(leased.ledger.operation(&samples::operation("two")).await.unwrap(), None);
}

/// Closing one, opening the next and beginning its journal commit together.
pub async fn hand_over_in_one_step(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    let end = Commit {
        changes: vec![Change::Close, Change::Open(Box::new(leased.plan("two")))],
        ..leased.entries("one", 1, &["taken back"])
    };
    leased.commit(&[end, leased.entries("two", 0, &["begun"])]).await;
    assert_eq!(leased.ledger.open_operation(leased.key()).await.unwrap(), Some(leased.plan("two")));
    assert_eq!(
        leased.ledger.operation(&samples::operation("one")).await.unwrap(),
        Some(leased.plan("one"))
    );
    assert_eq!(leased.ledger.entries(&samples::operation("one")).await.unwrap().len(), 2);
    assert_eq!(
        leased.ledger.entries(&samples::operation("two")).await.unwrap(),
        [leased.entry("begun")]
    );
}

/// No journal without its plan, none after its end.
pub async fn entries_need_an_open_operation(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("over").await;
    leased
        .commit(&[Commit { changes: vec![Change::Close], ..leased.entries("over", 1, &["end"]) }])
        .await;
    for commit in [leased.entries("unknown", 0, &["x"]), leased.entries("over", 2, &["x"])] {
        let result = leased.ledger.commit(&leased.lease, &[commit]).await;
        assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
    }
    assert_eq!(leased.ledger.entries(&samples::operation("unknown")).await.unwrap(), vec![]);
    assert_eq!(leased.ledger.entries(&samples::operation("over")).await.unwrap().len(), 2);
}

/// Also when it begins and ends at once.
pub async fn the_last_entries_come_with_the_close(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let whole = Commit {
        changes: vec![
            Change::Open(Box::new(leased.plan("one"))),
            Change::Close,
            Change::Outbox(samples::message("done")),
        ],
        ..leased.entries("one", 0, &["begin", "end"])
    };
    leased.commit(&[whole]).await;
    assert_eq!(leased.ledger.open_operation(leased.key()).await.unwrap(), None);
    assert_eq!(
        leased.ledger.operation(&samples::operation("one")).await.unwrap(),
        Some(leased.plan("one"))
    );
    assert_eq!(leased.ledger.entries(&samples::operation("one")).await.unwrap().len(), 2);
    assert_eq!(leased.ledger.outbox(10).await.unwrap().len(), 1);
}

/// Once.
pub async fn only_an_open_operation_closes(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    let close = Commit { changes: vec![Change::Close], ..leased.entries("one", 1, &[]) };
    leased.commit(std::slice::from_ref(&close)).await;
    let result = leased.ledger.commit(&leased.lease, &[close]).await;
    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
    let result = leased.ledger.commit(&leased.lease, &[leased.changes(vec![Change::Close])]).await;
    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
}

/// Also after it ended.
pub async fn an_id_is_used_once(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    leased
        .commit(&[Commit { changes: vec![Change::Close], ..leased.entries("one", 1, &[]) }])
        .await;
    let again = leased.changes(vec![Change::Open(Box::new(leased.plan("one")))]);
    let result = leased.ledger.commit(&leased.lease, &[again]).await;
    assert!(matches!(result, Err(AppendError::Conflict { .. })), "{result:?}");
    assert_eq!(leased.ledger.open_operation(leased.key()).await.unwrap(), None);
}

/// One open in each.
pub async fn environments_have_operations_of_their_own(harness: &dyn LedgerHarness) {
    let production = Leased::new(harness).await;
    let staging = Leased::of(harness, &samples::key("shop", "staging")).await;
    production.open("one").await;
    staging.open("two").await;
    assert_eq!(
        production.ledger.open_operation(production.key()).await.unwrap(),
        Some(production.plan("one"))
    );
    assert_eq!(
        staging.ledger.open_operation(staging.key()).await.unwrap(),
        Some(staging.plan("two"))
    );
}
