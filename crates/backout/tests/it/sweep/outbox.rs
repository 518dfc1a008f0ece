//! What was promised to be sent: in the ledger as soon as its operation has ended, once.

use backout_core::model::{DeploymentFilter, DeploymentStatus};
use backout_core::ports::Ledger as _;
use backout_ledger::{OpenMode, SqliteLedger};

use crate::support::World;

/// More than any of these worlds has.
const MOST: u32 = 1_000;

/// Fails unless every operation that has ended stands in the outbox, once.
pub fn check(world: &World) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Ok(ledger) = SqliteLedger::open(&world.state_dir(), OpenMode::ReadOnly).await else {
            // Nothing was ever begun here.
            return;
        };
        let messages = ledger.outbox(MOST).await.unwrap();
        for environment in ledger.environments(None).await.unwrap() {
            let key = environment.key;
            let rows = ledger.deployments(&key, &DeploymentFilter::default()).await.unwrap();
            for row in rows {
                if matches!(row.status, DeploymentStatus::InProgress | DeploymentStatus::Stuck) {
                    continue;
                }
                let of_this =
                    |body: &serde_json::Value| body["operation"] == row.operation.as_str();
                let count = messages.iter().filter(|(_, message)| of_this(&message.body)).count();
                assert_eq!(count, 1, "messages about the end of #{} {}", row.number, row.status);
            }
        }
        let _ = ledger.close().await;
    });
}
