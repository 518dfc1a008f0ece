//! The made-up history is one that the engine could have written.

use backout_core::ids::AppName;
use backout_core::model::{DeploymentFilter, DeploymentStatus};
use backout_core::ports::Ledger;
use backout_core::saga::{Ending, fold};
use backout_ledger::seed_history;
use backout_testkit::ledger::samples;
use backout_testkit::ledger::suite::LedgerHarness;

use crate::harness::{fresh, logged};

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
