//! Whoever watches also looks after the router: while it is gone, users get no answer at all.

use std::time::Duration;

use backout_core::saga::EntryKind;
use tokio::time::Instant;

use super::run::WatchScope;
use super::sampler::Watcher;
use crate::effects;
use crate::journal::{Journal, JournalError};

/// A start of the router may take this long.
const START_LIMIT: Duration = Duration::from_secs(15);
/// Between two attempts to start it.
const PERIOD: Duration = Duration::from_secs(2);

/// What one watch did about a router that is gone.
#[derive(Debug, Default)]
pub(super) struct RouterCare {
    tried: Option<Instant>,
    told_why: bool,
}

impl RouterCare {
    /// Starts a router that is gone, with the routes that it kept; the journal remembers that it was gone.
    pub async fn look_after(
        &mut self,
        scope: &WatchScope<'_>,
        journal: &mut Journal,
        watcher: &Watcher,
    ) -> Result<(), JournalError> {
        if !watcher.router_gone {
            *self = Self::default();
            return Ok(());
        }
        let Some(router) = scope.cx.router.as_deref() else { return Ok(()) };
        if self.tried.is_some_and(|at| at.elapsed() < PERIOD) {
            return Ok(());
        }
        self.tried = Some(Instant::now());
        let epoch = scope.keeper.lease.epoch;
        let plan = &journal.plan;
        let step = effects::step_cx(scope.cx, plan, &plan.steps[scope.step], 1, epoch, START_LIMIT);
        let message = match router.ensure(&step).await {
            Ok(receipt) if effects::was_started(&receipt) => {
                effects::ROUTER_STARTED_AGAIN.to_owned()
            }
            Ok(_) => return Ok(()),
            Err(_) if self.told_why => return Ok(()),
            Err(error) => {
                self.told_why = true;
                format!("the router is gone and users are not served: {error}")
            }
        };
        scope.cx.events.warn(message.clone());
        journal.note(scope.cx.now(), epoch, EntryKind::Warning { message })?;
        journal.flush(scope.cx.ledger.as_ref(), &scope.keeper.lease).await
    }
}
