//! Deployments, releases, rollbacks, environments.

use std::sync::Arc;

use backout_core::ids::EnvironmentKey;
use backout_core::model::{
    Deployment, DeploymentFilter, DeploymentKind, DeploymentStatus, EnvironmentRecord, Release,
};
use backout_core::ports::{AppendError, Change, Ledger};
use jiff::SignedDuration;

use super::{Leased, LedgerHarness};
use crate::ledger::samples;

/// Deployments of 1 to 6, begun in seconds 1 to 6: 2 and 5 are rollbacks, 3 failed, 5 is stuck.
async fn six(leased: &Leased) -> Vec<Deployment> {
    let operation = samples::operation("none");
    let mut made = Vec::new();
    for number in 1..=6 {
        let release = leased.release(&format!("1.0.{number}"));
        let sample = samples::deployment(leased.key(), &operation, number, &release);
        let deployment = Deployment {
            kind: if matches!(number, 2 | 5) {
                DeploymentKind::Rollback
            } else {
                DeploymentKind::Deploy
            },
            status: match number {
                3 => DeploymentStatus::Failed,
                5 => DeploymentStatus::Stuck,
                _ => DeploymentStatus::Stable,
            },
            ..sample
        };
        leased.commit(&[leased.changes(both(&release, &deployment))]).await;
        made.push(deployment);
    }
    made
}

fn both(release: &Release, deployment: &Deployment) -> Vec<Change> {
    vec![
        Change::Release(Box::new(release.clone())),
        Change::Deployment(Box::new(deployment.clone())),
    ]
}

async fn numbers(
    ledger: &Arc<dyn Ledger>,
    key: &EnvironmentKey,
    filter: &DeploymentFilter,
) -> Vec<u64> {
    let deployments = ledger.deployments(key, filter).await.unwrap();
    deployments.iter().map(|deployment| deployment.number).collect()
}

/// Newest first; every part of the filter narrows; bounds are inclusive.
pub async fn deployments_are_filtered(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let made = six(&leased).await;
    let other = Leased::of(harness, &samples::key("shop", "staging")).await;
    six(&other).await;
    let (ledger, key, all) = (&leased.ledger, leased.key(), DeploymentFilter::default());
    let newest_first: Vec<Deployment> = made.iter().rev().cloned().collect();
    assert_eq!(ledger.deployments(key, &all).await.unwrap(), newest_first);
    let stable = Some(DeploymentStatus::Stable);
    let cases = [
        (DeploymentFilter { rollbacks_only: true, ..all.clone() }, vec![5, 2]),
        (DeploymentFilter { status: stable, ..all.clone() }, vec![6, 4, 2, 1]),
        (DeploymentFilter { status: Some(DeploymentStatus::Pending), ..all.clone() }, vec![]),
        (DeploymentFilter { since: Some(samples::at(4)), ..all.clone() }, vec![6, 5, 4]),
        (DeploymentFilter { limit: Some(2), ..all.clone() }, vec![6, 5]),
        (DeploymentFilter { limit: Some(0), ..all.clone() }, vec![]),
        (DeploymentFilter { limit: Some(u32::MAX), ..all.clone() }, vec![6, 5, 4, 3, 2, 1]),
        (DeploymentFilter { rollbacks_only: true, status: stable, ..all.clone() }, vec![2]),
        (
            DeploymentFilter {
                rollbacks_only: true,
                since: Some(samples::at(2)),
                limit: Some(1),
                ..all.clone()
            },
            vec![5],
        ),
        (
            DeploymentFilter {
                status: stable,
                since: Some(samples::at(2)),
                limit: Some(2),
                ..all.clone()
            },
            vec![6, 4],
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(numbers(ledger, key, &filter).await, expected, "{filter:?}");
    }
    assert_eq!(numbers(ledger, &samples::key("blog", "production"), &all).await, Vec::<u64>::new());
}

/// A moment is not rounded.
pub async fn nanoseconds_count(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let release = leased.release("1.0.0");
    let sample = samples::deployment(leased.key(), &samples::operation("none"), 1, &release);
    let started_at = samples::at(5) + SignedDuration::from_nanos(3);
    let deployment = Deployment { started_at, ..sample };
    leased.commit(&[leased.changes(both(&release, &deployment))]).await;
    let since = |nanos| DeploymentFilter {
        since: Some(samples::at(5) + SignedDuration::from_nanos(nanos)),
        ..DeploymentFilter::default()
    };
    assert_eq!(numbers(&leased.ledger, leased.key(), &since(3)).await, [1]);
    assert_eq!(numbers(&leased.ledger, leased.key(), &since(4)).await, Vec::<u64>::new());
    assert_eq!(
        leased.ledger.deployment(leased.key(), 1).await.unwrap().unwrap().started_at,
        started_at
    );
}

/// The row is what was written last; filters see it so.
pub async fn deployments_are_updated(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let made = six(&leased).await;
    let changed = Deployment {
        status: DeploymentStatus::RolledBack,
        rejected: true,
        error_message: Some("checkout fails".to_owned()),
        ..made[3].clone()
    };
    leased.commit(&[leased.changes(vec![Change::Deployment(Box::new(changed.clone()))])]).await;
    assert_eq!(leased.ledger.deployment(leased.key(), 4).await.unwrap(), Some(changed.clone()));
    assert_eq!(leased.ledger.deployment_by_id(changed.id.as_str()).await.unwrap(), Some(changed));
    let filter = DeploymentFilter {
        status: Some(DeploymentStatus::RolledBack),
        ..DeploymentFilter::default()
    };
    assert_eq!(numbers(&leased.ledger, leased.key(), &filter).await, [4]);
    assert_eq!(
        numbers(&leased.ledger, leased.key(), &DeploymentFilter::default()).await,
        [6, 5, 4, 3, 2, 1]
    );
}

/// What is live without a release could not be restored.
pub async fn a_deployment_needs_its_release(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let release = leased.release("1.0.0");
    let deployment = samples::deployment(leased.key(), &samples::operation("none"), 1, &release);
    let alone = leased.changes(vec![Change::Deployment(Box::new(deployment.clone()))]);
    let result = leased.ledger.commit(&leased.lease, std::slice::from_ref(&alone)).await;
    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
    leased.commit(&[leased.changes(both(&release, &deployment))]).await;
    leased.commit(&[alone]).await;
}

/// A number is given once.
pub async fn a_deployment_keeps_its_id(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let release = leased.release("1.0.0");
    let deployment = samples::deployment(leased.key(), &samples::operation("none"), 1, &release);
    leased.commit(&[leased.changes(both(&release, &deployment))]).await;
    let renamed = Deployment { id: samples::deployment_id(leased.key(), 77), ..deployment.clone() };
    let result =
        leased.ledger.commit(&leased.lease, &[leased.changes(both(&release, &renamed))]).await;
    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
    assert_eq!(leased.ledger.deployment(leased.key(), 1).await.unwrap(), Some(deployment));
}

/// Over all environments.
pub async fn an_id_belongs_to_one_deployment(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let release = leased.release("1.0.0");
    let deployment = samples::deployment(leased.key(), &samples::operation("none"), 1, &release);
    leased.commit(&[leased.changes(both(&release, &deployment))]).await;
    let other = Leased::of(harness, &samples::key("shop", "staging")).await;
    let twin = Deployment { key: other.key().clone(), ..deployment.clone() };
    let result = other.ledger.commit(&other.lease, &[other.changes(both(&release, &twin))]).await;
    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
    let second = Deployment { number: 2, ..deployment };
    let result =
        leased.ledger.commit(&leased.lease, &[leased.changes(both(&release, &second))]).await;
    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
}

/// Who records the same content later does not change who made it.
pub async fn a_release_is_kept_as_first_recorded(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let first = leased.release("1.0.0");
    let second = Release {
        created_by: "bob@host:2".to_owned(),
        created_at: samples::at(99),
        ..first.clone()
    };
    for release in [&first, &second] {
        leased.commit(&[leased.changes(vec![Change::Release(Box::new(release.clone()))])]).await;
    }
    assert_eq!(leased.ledger.release_by_id(&first.id).await.unwrap(), Some(first));
}

/// All of an app, each once, and only those that a deployment names.
pub async fn releases_are_counted_over_environments(harness: &dyn LedgerHarness) {
    let production = Leased::new(harness).await;
    let staging = Leased::of(harness, &samples::key("shop", "staging")).await;
    let blog = Leased::of(harness, &samples::key("blog", "production")).await;
    let operation = samples::operation("none");
    for (leased, number, version) in [
        (&production, 1, "1"),
        (&production, 2, "2"),
        (&staging, 1, "2"),
        (&staging, 2, "3"),
        (&blog, 1, "9"),
    ] {
        let release = leased.release(version);
        let deployment = samples::deployment(leased.key(), &operation, number, &release);
        leased.commit(&[leased.changes(both(&release, &deployment))]).await;
    }
    let unnamed = production.release("unnamed");
    production.commit(&[production.changes(vec![Change::Release(Box::new(unnamed))])]).await;
    let mut versions: Vec<String> = Vec::new();
    for release in production.ledger.releases_of(&production.key().app).await.unwrap() {
        versions.push(release.content.version.to_string());
    }
    versions.sort();
    assert_eq!(versions, ["1", "2", "3"]);
}

/// By the deployment they made and by id; the row is what was written last.
pub async fn rollbacks_are_found(harness: &dyn LedgerHarness) {
    let leased = Leased::new(harness).await;
    let made = six(&leased).await;
    let record = samples::rollback("five", &made[4]);
    leased.commit(&[leased.changes(vec![Change::Rollback(Box::new(record.clone()))])]).await;
    assert_eq!(leased.ledger.rollback_of(leased.key(), 5).await.unwrap(), Some(record.clone()));
    let changed = backout_core::model::RollbackRecord { notification_sent: true, ..record };
    leased.commit(&[leased.changes(vec![Change::Rollback(Box::new(changed.clone()))])]).await;
    assert_eq!(leased.ledger.rollback_by_id("rb_five").await.unwrap(), Some(changed.clone()));
    assert_eq!(leased.ledger.rollback_of(leased.key(), 5).await.unwrap(), Some(changed));
    assert_eq!(leased.ledger.rollback_of(leased.key(), 2).await.unwrap(), None);
    assert_eq!(leased.ledger.rollback_of(&samples::key("shop", "staging"), 5).await.unwrap(), None);
}

/// By app, in order of their names.
pub async fn environments_are_listed(harness: &dyn LedgerHarness) {
    let mut keys = Vec::new();
    for (app, environment) in [("shop", "staging"), ("blog", "production"), ("shop", "production")]
    {
        keys.push(Leased::of(harness, &samples::key(app, environment)).await.lease.key);
    }
    let ledger = harness.ledger();
    let listed = |records: Vec<EnvironmentRecord>| {
        records.into_iter().map(|record| record.key).collect::<Vec<_>>()
    };
    assert_eq!(
        listed(ledger.environments(None).await.unwrap()),
        [keys[1].clone(), keys[2].clone(), keys[0].clone()]
    );
    assert_eq!(
        listed(ledger.environments(Some(&keys[0].app)).await.unwrap()),
        [keys[2].clone(), keys[0].clone()]
    );
    let none = ledger.environments(Some(&samples::key("none", "x").app)).await.unwrap();
    assert_eq!(none, vec![]);
}

/// No error.
pub async fn what_is_not_there_is_none(harness: &dyn LedgerHarness) {
    let (ledger, key) = (harness.ledger(), samples::key("shop", "production"));
    let operation = samples::operation("none");
    assert_eq!(ledger.environment(&key).await.unwrap(), None);
    assert_eq!(ledger.open_operation(&key).await.unwrap(), None);
    assert_eq!(ledger.operation(&operation).await.unwrap(), None);
    assert_eq!(ledger.entries(&operation).await.unwrap(), vec![]);
    assert_eq!(ledger.deployment(&key, 0).await.unwrap(), None);
    assert_eq!(ledger.deployment_by_id("dep_x").await.unwrap(), None);
    assert_eq!(ledger.release_by_id(&samples::unknown_release()).await.unwrap(), None);
    assert_eq!(ledger.releases_of(&key.app).await.unwrap(), vec![]);
    assert_eq!(ledger.rollback_by_id("rb_x").await.unwrap(), None);
    assert_eq!(ledger.request(&samples::request(&key, &operation, "x").id).await.unwrap(), None);
    assert_eq!(ledger.pending_requests(&operation).await.unwrap(), vec![]);
    assert_eq!(ledger.readiness(&key).await.unwrap(), None);
    assert_eq!(ledger.health(&key).await.unwrap(), None);
    assert_eq!(ledger.blob("sha256:00").await.unwrap(), None);
    assert_eq!(ledger.lease(&key).await.unwrap(), None);
}
