//! Finds the incident bundle that belongs to what is inspected.

use std::path::Path;

use backout_core::model::DeploymentFilter;
use backout_core::ports::{Ledger, LedgerError};
use backout_core::saga::Ending;
use backout_engine::incident;

use crate::cli::report::inspect::Inspected;

/// How many rollbacks are looked through for the one that left a deployment.
const SEARCH_MAX: u32 = 200;

/// Of the rollback itself, or of the one by which the deployment was left.
pub async fn find(
    folder: &Path,
    ledger: &dyn Ledger,
    found: &mut Inspected,
) -> Result<(), LedgerError> {
    for id in names(ledger, found).await? {
        found.incident = incident::read(folder, &id);
        if !matches!(found.incident, Ok(None)) {
            return Ok(());
        }
    }
    Ok(())
}

async fn names(ledger: &dyn Ledger, found: &Inspected) -> Result<Vec<String>, LedgerError> {
    let mut names = Vec::new();
    if let Ok(Some(record)) = &found.rollback {
        names.push(record.id.to_string());
    }
    if let Ok(Some(plan)) = &found.operation {
        names.push(incident::bundle_id(plan));
    }
    if let Ok(Some(state)) = &found.state
        && let Some(Ending::TakenBack { by, .. }) = &state.ended
        && let Ok(Some(plan)) = ledger.operation(by).await
    {
        names.push(incident::bundle_id(&plan));
    }
    // The way back may be under way still, or stuck: what was kept is there already.
    if let Ok(Some(row)) = &found.deployment {
        let filter = DeploymentFilter {
            rollbacks_only: true,
            limit: Some(SEARCH_MAX),
            ..DeploymentFilter::default()
        };
        for back in ledger.deployments(&row.key, &filter).await? {
            if back.from_number == Some(row.number)
                && let Ok(Some(record)) = ledger.rollback_of(&row.key, back.number).await
            {
                names.push(record.id.to_string());
            }
        }
    }
    Ok(names)
}
