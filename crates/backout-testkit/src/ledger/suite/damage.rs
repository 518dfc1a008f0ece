//! One bad record: it is named, the rest can be read, and nothing is guessed where guessing would do harm.

use backout_core::model::DeploymentFilter;
use backout_core::ports::{Change, Commit, LedgerError};

use super::{Leased, LedgerHarness};
use crate::ledger::{Harm, Stored, samples};

fn names<T: std::fmt::Debug>(result: Result<T, LedgerError>, subject: &str) {
    match result {
        Err(LedgerError::CorruptRecord { what, message }) => {
            assert!(what.contains(subject), "{what}");
            assert!(!message.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

async fn three_deployments(leased: &Leased) {
    for number in 1..=3 {
        let release = leased.release(&format!("1.0.{number}"));
        let deployment =
            samples::deployment(leased.key(), &samples::operation("none"), number, &release);
        let changes =
            vec![Change::Release(Box::new(release)), Change::Deployment(Box::new(deployment))];
        leased.commit(&[leased.changes(changes)]).await;
    }
}

/// Asked for by itself it is named.
pub async fn a_list_leaves_a_bad_deployment_out(harness: &dyn LedgerHarness) {
    for (number, harm) in [(1, Harm::Garbage), (2, Harm::NewerFormat)] {
        let key = samples::key("shop", if number == 1 { "production" } else { "staging" });
        let leased = Leased::of(harness, &key).await;
        three_deployments(&leased).await;
        harness.damage(&Stored::Deployment(key.clone(), number), harm).await;
        let listed = leased.ledger.deployments(&key, &DeploymentFilter::default()).await.unwrap();
        let numbers: Vec<u64> = listed.iter().map(|deployment| deployment.number).collect();
        assert_eq!(numbers, if number == 1 { [3, 2] } else { [3, 1] });
        names(leased.ledger.deployment(&key, number).await, &format!("#{number}"));
        let id = samples::deployment_id(&key, number);
        names(leased.ledger.deployment_by_id(id.as_str()).await, id.as_str());
        assert!(leased.ledger.deployment(&key, 3).await.unwrap().is_some());
    }
}

/// The others are listed; its lease can be claimed, so that it can be written anew.
pub async fn a_bad_environment_is_named(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let staging = Leased::of(harness, &samples::key("shop", "staging")).await;
    harness.damage(&Stored::Environment(leased.key().clone()), Harm::Garbage).await;
    names(leased.ledger.environment(leased.key()).await, "shop/production");
    let listed = leased.ledger.environments(None).await.unwrap();
    assert_eq!(listed.iter().map(|record| &record.key).collect::<Vec<_>>(), [staging.key()]);
    harness.kill(&leased.holder);
    let next = Leased::new(harness).await;
    let record = backout_core::model::EnvironmentRecord::new(next.key().clone());
    next.commit(&[next.changes(vec![Change::Environment(Box::new(record.clone()))])]).await;
    assert_eq!(next.ledger.environment(next.key()).await.unwrap(), Some(record));
}

/// A journal with a hole would fold into a wrong state.
pub async fn a_journal_is_whole_or_an_error(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    leased.commit(&[leased.entries("one", 1, &["a", "b"])]).await;
    harness.damage(&Stored::Entry(samples::operation("one"), 2), Harm::NewerFormat).await;
    names(leased.ledger.entries(&samples::operation("one")).await, "entry 2 of op_one");
    harness.damage(&Stored::Entry(samples::operation("one"), 1), Harm::Garbage).await;
    names(leased.ledger.entries(&samples::operation("one")).await, "entry 1 of op_one");
    // It can still be ended: its length is known.
    assert_eq!(leased.ledger.journal_length(&samples::operation("one")).await.unwrap(), 3);
    leased
        .commit(&[Commit {
            changes: vec![Change::Close],
            ..leased.entries("one", 3, &["resolved"])
        }])
        .await;
}

/// By both ways to it.
pub async fn a_bad_plan_is_named(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    leased.open("one").await;
    harness.damage(&Stored::Plan(samples::operation("one")), Harm::NewerFormat).await;
    names(leased.ledger.open_operation(leased.key()).await, "op_one");
    names(leased.ledger.operation(&samples::operation("one")).await, "op_one");
    // Its id and its length are known, so that a person can end it.
    let id = leased.ledger.open_operation_id(leased.key()).await.unwrap();
    assert_eq!(id, Some(samples::operation("one")));
    let commit = Commit { changes: vec![Change::Close], ..leased.entries("one", 1, &[]) };
    leased.commit(&[commit]).await;
    assert_eq!(leased.ledger.open_operation_id(leased.key()).await.unwrap(), None);
}

/// What was left out here would be pruned.
pub async fn releases_for_pruning_are_whole_or_an_error(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    three_deployments(&leased).await;
    let release = leased.release("1.0.2");
    harness.damage(&Stored::Release(release.id.clone()), Harm::NewerFormat).await;
    names(leased.ledger.releases_of(&leased.key().app).await, release.id.as_str());
    names(leased.ledger.release_by_id(&release.id).await, release.id.as_str());
    assert!(leased.ledger.release_by_id(&leased.release("1.0.1").id).await.unwrap().is_some());
}

/// It is left out, and named when asked for.
pub async fn a_bad_request_stops_no_holder(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let operation = samples::operation("one");
    let [bad, good] = ["bad", "good"].map(|name| samples::request(leased.key(), &operation, name));
    leased.ledger.submit(&bad).await.unwrap();
    leased.ledger.submit(&good).await.unwrap();
    harness.damage(&Stored::Request(bad.id.clone()), Harm::Garbage).await;
    assert_eq!(leased.ledger.pending_requests(&operation).await.unwrap(), [good]);
    names(leased.ledger.request(&bad.id).await, bad.id.as_str());
}

/// The others go out.
pub async fn a_bad_message_stops_no_other(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let changes = ["a", "b"].map(|topic| Change::Outbox(samples::message(topic))).to_vec();
    leased.commit(&[leased.changes(changes)]).await;
    let listed = leased.ledger.outbox(10).await.unwrap();
    harness.damage(&Stored::Message(listed[0].0), Harm::Garbage).await;
    assert_eq!(leased.ledger.outbox(10).await.unwrap(), listed[1..]);
}

/// By both ways to it.
pub async fn a_bad_rollback_is_named(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    three_deployments(&leased).await;
    let deployment = leased.ledger.deployment(leased.key(), 2).await.unwrap().unwrap();
    let record = samples::rollback("two", &deployment);
    leased.commit(&[leased.changes(vec![Change::Rollback(Box::new(record))])]).await;
    harness.damage(&Stored::Rollback("rb_two".to_owned()), Harm::Garbage).await;
    names(leased.ledger.rollback_by_id("rb_two").await, "rb_two");
    names(leased.ledger.rollback_of(leased.key(), 2).await, "rb_two");
}
