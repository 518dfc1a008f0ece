//! What the router does by itself, and how the holder hears of it: as the engine has it.

use backout_core::ids::{DeploymentId, ReleaseId};
use backout_core::model::{OperationKind, RequestKind, Trigger};
use backout_core::saga::{EntryKind, Failure};

use super::run::{Sim, failure};
use super::script::Mutant;

impl Sim {
    /// The armed trip fires, if there is one. Unless it was decided already to go back, that is owed a verdict.
    pub(super) fn let_trip_fire(&mut self) {
        if !self.world.let_trip_fire() {
            return;
        }
        let Some(plan) = self.store.open.as_ref().filter(|plan| plan.kind == OperationKind::Deploy)
        else {
            return;
        };
        let entries = &self.store.journals[&plan.operation];
        let decided = entries.iter().any(|entry| {
            matches!(
                entry.kind,
                EntryKind::Failing { .. }
                    | EntryKind::Requested { kind: RequestKind::TakeOver | RequestKind::Abort, .. }
            )
        });
        if !decided {
            self.owed = plan.deployment_id.clone().zip(plan.release.clone());
        }
    }

    /// What is seen when the router is asked.
    pub(super) fn acted(&self) -> Option<Failure> {
        if let Some(moved) = self.world.tripped.filter(|_| !self.has(Mutant::IgnoresTrip)) {
            return Some(failure(Trigger::Analysis, "canary errors", true, moved));
        }
        let moved = self.world.fired?;
        Some(failure(Trigger::Timeout, "the watcher was gone", false, moved))
    }

    /// A release that the router took out is rejected in the end, and users are not on it.
    pub(super) fn check_owed(&self) -> Result<(), String> {
        let Some((deployment, release)): &Option<(DeploymentId, ReleaseId)> = &self.owed else {
            return Ok(());
        };
        let row = self.store.deployments.values().find(|row| row.id == *deployment);
        if !row.is_some_and(|row| row.rejected) {
            return Err(format!("the trip fired over {release}, and it is not rejected"));
        }
        if self.live_row().is_some_and(|live| live.release == *release) {
            return Err(format!("the trip fired over {release}, and it is live"));
        }
        Ok(())
    }
}
