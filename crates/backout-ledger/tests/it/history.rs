//! The made-up history is one that the engine could have written.

use backout_core::ids::AppName;
use backout_core::model::{DeploymentFilter, DeploymentStatus};
use backout_core::ports::{Change, Commit, Ledger};
use backout_core::saga::{Ending, fold};
use backout_ledger::seed_history;
use backout_testkit::ledger::samples;
use backout_testkit::ledger::suite::{Leased, LedgerHarness};

use crate::harness::{fresh, logged, tamper};
use crate::postgres;

#[tokio::test]
async fn a_seeded_history_reads_like_a_real_one() {
    let harness = fresh().await;
    let (ledger, key) = (harness.sqlite(), samples::key("shop", "production"));
    assert_eq!(seed_history(ledger, &key, &harness.holder(), 230).await.unwrap(), 230);
    let deployments = ledger.deployments(&key, &DeploymentFilter::default()).await.unwrap();
    assert_eq!(deployments.len(), 230);
    assert!(deployments.is_sorted_by(|newer, older| newer.started_at > older.started_at));
    for deployment in &deployments {
        let plan = ledger.operation(&deployment.operation).await.unwrap().unwrap();
        let entries = ledger.entries(&deployment.operation).await.unwrap();
        let state = fold(&plan, &entries).unwrap();
        assert_eq!(state.ended, Some(Ending::Done { healthy: true }));
        assert_eq!(
            ledger.release_by_id(&deployment.release).await.unwrap().unwrap().id,
            deployment.release
        );
    }
    let filter = DeploymentFilter { rollbacks_only: true, ..DeploymentFilter::default() };
    let rollbacks = ledger.deployments(&key, &filter).await.unwrap();
    assert_eq!(rollbacks.len(), 23);
    let record = ledger.rollback_of(&key, 230).await.unwrap().unwrap();
    assert_eq!((record.deployment_from, record.deployment_to), (Some(229), 230));
    let left = ledger.deployment(&key, 229).await.unwrap().unwrap();
    assert_eq!((left.status, left.rejected), (DeploymentStatus::RolledBack, true));
    let environment = ledger.environment(&key).await.unwrap().unwrap();
    assert_eq!((environment.live, environment.next_number), (Some(230), 231));
    assert_eq!(ledger.open_operation(&key).await.unwrap(), None);
    assert_eq!(ledger.releases_of(&AppName::new("shop").unwrap()).await.unwrap().len(), 230 - 23);
    // It can be lengthened, and others beside it.
    assert_eq!(seed_history(ledger, &key, &harness.holder(), 5).await.unwrap(), 235);
    assert_eq!(
        seed_history(ledger, &samples::key("shop", "staging"), &harness.holder(), 5).await.unwrap(),
        5
    );
    assert_eq!(logged(ledger).await, 240 * 18);
}

/// As many as there can be in the outbox, and some more.
const MESSAGES: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10050)
    INSERT INTO outbox (topic, format, json) SELECT 'old', 1, '{}' FROM n";

/// What nobody sends is not kept for ever.
#[tokio::test]
async fn the_outbox_is_bounded() {
    let harness = fresh().await;
    assert_eq!(tamper(&harness.state(), MESSAGES.to_owned()).await, 10_050);
    let leased = Leased::new(&harness).await;
    leased.open("one").await;
    let changes = vec![Change::Outbox(samples::message("new"))];
    leased.commit(&[Commit { changes, ..leased.entries("one", 1, &["a"]) }]).await;
    let sql = "DELETE FROM outbox WHERE topic = 'old'";
    assert_eq!(tamper(&harness.state(), sql.to_owned()).await, 9_999, "the oldest went");
    assert_eq!(leased.ledger.outbox(10).await.unwrap().len(), 1, "the newest is there");

    let harness = postgres::harness::fresh().await;
    harness.sql(&MESSAGES.replace("outbox", "backout.outbox"));
    let leased = Leased::new(&harness).await;
    leased.open("one").await;
    let changes = vec![Change::Outbox(samples::message("new"))];
    leased.commit(&[Commit { changes, ..leased.entries("one", 1, &["a"]) }]).await;
    assert_eq!(harness.sql("SELECT count(*) FROM backout.outbox WHERE topic = 'old'"), "9999");
    assert_eq!(harness.sql("SELECT count(*) FROM backout.outbox WHERE topic <> 'old'"), "1");
}
