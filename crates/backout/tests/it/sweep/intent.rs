//! No effect without a durable intent: whatever a script was called for stands in the journal as begun.

use backout_core::ids::OperationId;
use backout_core::ports::Ledger as _;
use backout_core::saga::EntryKind;
use backout_ledger::{OpenMode, SqliteLedger};

use crate::support::World;

/// Fails unless every call that the script noted had its intent in the ledger.
pub fn check(world: &World) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let calls = world.read("calls");
        if calls.is_empty() {
            return;
        }
        let ledger = SqliteLedger::open(&world.state_dir(), OpenMode::ReadOnly).await.unwrap();
        for call in calls.lines() {
            let key = call.split(' ').next().unwrap();
            let operation = OperationId::new(key.split('/').next().unwrap()).unwrap();
            let plan = ledger.operation(&operation).await.unwrap();
            let plan = plan.unwrap_or_else(|| panic!("{call}: its operation was never opened"));
            let entries = ledger.entries(&operation).await.unwrap();
            let begun = entries.iter().any(|entry| match entry.kind {
                EntryKind::StepStarted { step, .. } => plan.effect_key(&plan.steps[step]) == key,
                _ => false,
            });
            assert!(begun, "{call}: made without an intent");
        }
        let _ = ledger.close().await;
    });
}
