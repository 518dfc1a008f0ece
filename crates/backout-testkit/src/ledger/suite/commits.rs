//! All or nothing, in order, under the lease.

use backout_core::model::EnvironmentRecord;
use backout_core::ports::{AppendError, Change, Commit, LedgerError};
use backout_core::saga::{Entry, EntryKind};

use super::{Leased, LedgerHarness};
use crate::ledger::samples;

fn messages(entries: &[Entry]) -> Vec<&str> {
    let message = |entry: &'_ Entry| match &entry.kind {
        EntryKind::Warning { .. } => true,
        other => panic!("{other:?}"),
    };
    assert!(entries.iter().all(message));
    entries
        .iter()
        .filter_map(|entry| {
            if let EntryKind::Warning { message } = &entry.kind {
                Some(message.as_str())
            } else {
                None
            }
        })
        .collect()
}

/// As they were given, whatever the number of commits.
pub async fn entries_come_back_in_order(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    leased.commit(&[leased.entries("one", 1, &["a", "b"]), leased.entries("one", 3, &["c"])]).await;
    leased.commit(&[leased.entries("one", 4, &["d"])]).await;
    let entries = leased.ledger.entries(&samples::operation("one")).await.unwrap();
    assert_eq!(messages(&entries), ["opened", "a", "b", "c", "d"]);
    assert_eq!(entries[1], leased.entry("a"));
    assert_eq!(leased.ledger.journal_length(&samples::operation("one")).await.unwrap(), 5);
    assert_eq!(leased.ledger.journal_length(&samples::operation("none")).await.unwrap(), 0);
}

/// More than any batch.
pub async fn many_entries_keep_their_order(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    let texts: Vec<String> = (0..150).map(|number| format!("entry {number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    leased.commit(&[leased.entries("one", 1, &texts)]).await;
    let entries = leased.ledger.entries(&samples::operation("one")).await.unwrap();
    assert_eq!(messages(&entries)[1..], texts);
    leased.commit(&[leased.entries("one", 151, &["next"])]).await;
}

/// Too low, too high; nothing is written.
pub async fn a_wrong_sequence_conflicts(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    for expected in [0, 2, u64::MAX] {
        let result =
            leased.ledger.commit(&leased.lease, &[leased.entries("one", expected, &["x"])]).await;
        let conflict =
            AppendError::Conflict { operation: samples::operation("one"), expected, found: 1 };
        assert_eq!(result, Err(conflict));
    }
    // Without entries too.
    let changes = leased.changes(vec![Change::Outbox(samples::message("x"))]);
    let commit = Commit { operation: samples::operation("one"), expected_sequence: 5, ..changes };
    assert!(matches!(
        leased.ledger.commit(&leased.lease, &[commit]).await,
        Err(AppendError::Conflict { .. })
    ));
    assert_eq!(leased.ledger.entries(&samples::operation("one")).await.unwrap().len(), 1);
    assert_eq!(leased.ledger.outbox(10).await.unwrap(), vec![]);
}

/// A failing change takes everything before it back.
pub async fn all_commits_or_none(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    let release = leased.release("1.0.0");
    let record =
        EnvironmentRecord { next_number: 9, ..EnvironmentRecord::new(leased.key().clone()) };
    let deployment = samples::deployment(leased.key(), &samples::operation("one"), 1, &release);
    let first = Commit {
        changes: vec![
            Change::Release(Box::new(release.clone())),
            Change::Deployment(Box::new(deployment)),
            Change::Environment(Box::new(record)),
            Change::Outbox(samples::message("deployed")),
        ],
        ..leased.entries("one", 1, &["a"])
    };
    let unknown = Change::Answer(
        samples::request(leased.key(), &samples::operation("one"), "none").id,
        samples::answer("no"),
    );
    let second =
        Commit { changes: vec![Change::Close, unknown], ..leased.entries("one", 2, &["b"]) };
    let result = leased.ledger.commit(&leased.lease, &[first.clone(), second]).await;
    assert!(
        matches!(result, Err(AppendError::Unavailable(LedgerError::Unavailable(_)))),
        "{result:?}"
    );
    let ledger = harness.reopen().await;
    assert_eq!(ledger.entries(&samples::operation("one")).await.unwrap().len(), 1);
    assert_eq!(ledger.deployment(leased.key(), 1).await.unwrap(), None);
    assert_eq!(ledger.release_by_id(&release.id).await.unwrap(), None);
    assert_eq!(ledger.environment(leased.key()).await.unwrap().unwrap().next_number, 1);
    assert_eq!(ledger.outbox(10).await.unwrap(), vec![]);
    assert!(ledger.open_operation(leased.key()).await.unwrap().is_some());
    // The first alone is fine: it was not its fault.
    leased.commit(&[first]).await;
}

/// The sequence is checked at each commit, and each counts what came before it.
pub async fn a_conflict_in_the_last_commit_undoes_the_first(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    let commits = [leased.entries("one", 1, &["a"]), leased.entries("one", 1, &["b"])];
    let result = leased.ledger.commit(&leased.lease, &commits).await;
    let conflict =
        AppendError::Conflict { operation: samples::operation("one"), expected: 1, found: 2 };
    assert_eq!(result, Err(conflict));
    assert_eq!(leased.ledger.entries(&samples::operation("one")).await.unwrap().len(), 1);
}

/// The epoch counts at the moment of the commit.
pub async fn a_fenced_commit_writes_nothing(harness: &dyn LedgerHarness) {
    let lost = Leased::new(harness).await;
    lost.open("one").await;
    harness.kill(&lost.holder);
    let next = Leased::new(harness).await;
    let commit = Commit { changes: vec![Change::Close], ..lost.entries("one", 1, &["late"]) };
    let fenced = Err(AppendError::Fenced { ours: 1, current: 2 });
    assert_eq!(lost.ledger.commit(&lost.lease, std::slice::from_ref(&commit)).await, fenced);
    // Even with nothing to conflict with.
    assert_eq!(
        lost.ledger
            .commit(&lost.lease, &[lost.changes(vec![Change::Outbox(samples::message("x"))])])
            .await,
        fenced
    );
    assert_eq!(next.ledger.entries(&samples::operation("one")).await.unwrap().len(), 1);
    assert!(next.ledger.open_operation(next.key()).await.unwrap().is_some());
    assert_eq!(next.ledger.outbox(10).await.unwrap(), vec![]);
    next.commit(&[next.entries("one", 1, &["on time"])]).await;
}

/// A cheap way to ask.
pub async fn an_empty_commit_checks_the_lease(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.commit(&[]).await;
    harness.kill(&leased.holder);
    Leased::new(harness).await;
    let fenced = Err(AppendError::Fenced { ours: 1, current: 2 });
    assert_eq!(leased.ledger.commit(&leased.lease, &[]).await, fenced);
}

/// Of commits that expect the same, one wins and the others are told.
pub async fn racing_commits_conflict(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..12 {
        let (ledger, lease) = (harness.reopen().await, leased.lease.clone());
        let commit = leased.entries("one", 1, &[&format!("racer {number}")]);
        tasks.spawn(async move { ledger.commit(&lease, &[commit]).await });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    let lost = |result: &&Result<(), AppendError>| {
        matches!(result, Err(AppendError::Conflict { found: 2, .. }))
    };
    assert_eq!(results.iter().filter(lost).count(), 11, "{results:?}");
    assert_eq!(leased.ledger.entries(&samples::operation("one")).await.unwrap().len(), 2);
}

/// An entry says under which epoch it was written; it can't be another one.
pub async fn foreign_epochs_are_refused(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    let entries = vec![leased.entry("right"), samples::entry(leased.lease.epoch + 1, "wrong")];
    let commit = Commit { entries, ..leased.entries("one", 1, &[]) };
    let result = leased.ledger.commit(&leased.lease, &[commit]).await;
    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
    assert_eq!(leased.ledger.entries(&samples::operation("one")).await.unwrap().len(), 1);
}

/// A lease is for one environment.
pub async fn foreign_environments_are_refused(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let other = Leased::of(harness, &samples::key("shop", "staging")).await;
    other.open("theirs").await;
    let release = leased.release("1.0.0");
    leased.commit(&[leased.changes(vec![Change::Release(Box::new(release.clone()))])]).await;
    let deployment = samples::deployment(other.key(), &samples::operation("theirs"), 1, &release);
    let foreign = [
        Change::Open(Box::new(other.plan("mine"))),
        Change::Environment(Box::new(EnvironmentRecord::new(other.key().clone()))),
        Change::Rollback(Box::new(samples::rollback("x", &deployment))),
        Change::Deployment(Box::new(deployment)),
    ];
    for change in foreign {
        let result =
            leased.ledger.commit(&leased.lease, &[leased.changes(vec![change.clone()])]).await;
        assert!(matches!(result, Err(AppendError::Unavailable(_))), "{change:?}: {result:?}");
    }
    let close = Commit { changes: vec![Change::Close], ..leased.entries("theirs", 1, &[]) };
    for commit in [leased.entries("theirs", 1, &["x"]), close] {
        let result = leased.ledger.commit(&leased.lease, &[commit]).await;
        assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
    }
    other.commit(&[other.entries("theirs", 1, &["fine"])]).await;
}

/// As another process sees it.
pub async fn what_is_committed_survives(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    let again = harness.reopen().await;
    assert_eq!(again.open_operation(leased.key()).await.unwrap(), Some(leased.plan("one")));
    assert_eq!(again.entries(&samples::operation("one")).await.unwrap(), [leased.entry("opened")]);
    again
        .commit(&leased.lease, &[leased.entries("one", 1, &["from the other side"])])
        .await
        .unwrap();
    assert_eq!(leased.ledger.entries(&samples::operation("one")).await.unwrap().len(), 2);
}
