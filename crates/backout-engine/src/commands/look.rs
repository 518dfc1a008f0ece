//! What the ledger showed before a claim, and whether anybody wrote in between.

use backout_core::model::EnvironmentRecord;
use backout_core::plan::Plan;
use backout_core::ports::LedgerError;

use super::claim::Claimed;
use crate::context::Context;
use crate::journal::{self, Journal};

/// A look at an environment that nobody need hold. What was found out with it stays true for whoever claims next, if
/// nobody held the environment meanwhile: nothing is done without a lease, and each claim counts the epoch up by one.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// The epoch of whoever held it last, if he does not hold it any more.
    free_since: Option<u64>,
    /// The environment.
    pub environment: EnvironmentRecord,
    /// The open operation.
    pub open: Option<Plan>,
    /// How many entries that one's journal has.
    entries: u64,
}

impl Look {
    /// Looks. The lease comes first: who claims after that makes the look void.
    pub async fn take(cx: &Context) -> Result<Self, LedgerError> {
        let free_since = match cx.ledger.lease(&cx.key).await? {
            Some(view) if view.alive => None,
            Some(view) => Some(view.epoch),
            None => Some(0),
        };
        let open = cx.ledger.open_operation(&cx.key).await?;
        let entries = match &open {
            Some(plan) => cx.ledger.journal_length(&plan.operation).await?,
            None => 0,
        };
        let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
        Ok(Self { free_since, environment, open, entries })
    }

    /// Whether this is the first claim since.
    pub fn is_next(&self, epoch: u64) -> bool {
        self.free_since.is_some_and(|before| before + 1 == epoch)
    }

    /// Whether all is as it was: also a holder that hung then, and woke and wrote before it was claimed from him.
    pub fn still_holds(
        &self,
        claimed: &Claimed,
        old: Option<&Journal>,
        environment: &EnvironmentRecord,
    ) -> bool {
        let same_operation = match (&self.open, old) {
            (None, None) => true,
            (Some(plan), Some(old)) => {
                plan.operation == old.plan.operation && self.entries == old.length()
            }
            _ => false,
        };
        self.is_next(claimed.keeper.lease.epoch)
            && same_operation
            && self.environment == *environment
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::situation::tests::unit;

    #[test]
    fn only_the_first_claim_after_it_was_free_may_build_on_a_look() {
        let look = |free_since| Look {
            free_since,
            environment: EnvironmentRecord::new(unit("web").key),
            open: None,
            entries: 0,
        };
        assert!(look(Some(0)).is_next(1), "nobody ever held it");
        assert!(look(Some(4)).is_next(5));
        assert!(!look(Some(4)).is_next(6), "somebody held it in between");
        assert!(!look(None).is_next(5), "somebody held it then");
    }
}
