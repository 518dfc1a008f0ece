//! What an operation has done on which hosts, and how far it came.

use std::collections::{BTreeMap, BTreeSet};

use super::fold::{State, StepPhase};
use crate::ids::{HostName, ServiceName};
use crate::plan::{Action, Live, Plan};

/// Hosts on which a deploy has begun nothing, so that they still run the release that it would go back to.
/// Empty where that is not the one which was live as it began: then every host has to be brought there.
#[must_use]
pub fn untouched_hosts(plan: &Plan, state: &State, target: &Live) -> BTreeSet<HostName> {
    if plan.from.as_ref().is_none_or(|from| from.number != target.number) {
        return BTreeSet::new();
    }
    let (mut all, mut begun) = (BTreeSet::new(), BTreeSet::new());
    for (step, progress) in plan.steps.iter().zip(&state.steps) {
        if let Action::Start { host, .. } | Action::Stop { host, .. } = &step.action {
            all.insert(host.clone());
            // A failure that may pass is one without an effect: where there was no other, the host was never reached.
            let reached = progress.phase != StepPhase::Failed || progress.may_have_begun;
            if progress.attempts > 0 && reached {
                begun.insert(host.clone());
            }
        }
    }
    &all - &begun
}

/// How many batches a deploy has begun of each service that it replaces some instances of at a time. Empty where
/// `target` is not what was live as it began: then all has to be brought there.
#[must_use]
pub fn begun_batches(plan: &Plan, state: &State, target: &Live) -> BTreeMap<ServiceName, usize> {
    let mut begun = BTreeMap::new();
    if plan.from.as_ref().is_none_or(|from| from.number != target.number) {
        return begun;
    }
    for (step, progress) in plan.steps.iter().zip(&state.steps) {
        if let Action::Start { service, batch: Some(_), .. } = &step.action {
            *begun.entry(service.clone()).or_default() += usize::from(progress.attempts > 0);
        }
    }
    begun
}
