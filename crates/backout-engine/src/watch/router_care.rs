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
    told_unbound: bool,
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
            (self.tried, self.told_why) = (None, false);
            return self.look_at_its_address(scope, journal, watcher).await;
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
        warn(scope, journal, message).await
    }

    /// One that runs and can't listen tries again by itself; here it is only said, once until it listens again.
    async fn look_at_its_address(
        &mut self,
        scope: &WatchScope<'_>,
        journal: &mut Journal,
        watcher: &Watcher,
    ) -> Result<(), JournalError> {
        let told = std::mem::replace(&mut self.told_unbound, watcher.unbound.is_some());
        match &watcher.unbound {
            Some(why) if !told => {
                warn(scope, journal, format!("the router runs, but users are not served: {why}"))
                    .await
            }
            _ => Ok(()),
        }
    }
}

/// Tells a person, and the journal.
async fn warn(
    scope: &WatchScope<'_>,
    journal: &mut Journal,
    message: String,
) -> Result<(), JournalError> {
    let (cx, lease) = (scope.cx, &scope.keeper.lease);
    cx.events.warn(message.clone());
    journal.note(cx.now(), lease.epoch, EntryKind::Warning { message })?;
    journal.flush(cx.ledger.as_ref(), lease).await
}
