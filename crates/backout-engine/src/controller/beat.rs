//! Signs of life, and what they say of an environment.

use std::sync::Arc;

use backout_core::ids::{EnvironmentKey, hex};
use backout_core::model::{ControllerBeat, Policy, Strategy, Tended};
use backout_core::ports::{ControllerView, Holder, Ledger, LedgerError};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::config_snapshot::keyed_hash;
use crate::context::Context;

/// Version of this program: the rules of two versions are not compared.
pub(crate) const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// Digest of all rules but the strategy, which an order brings along.
#[must_use]
pub fn policy_digest(policy: &Policy) -> String {
    let policy = Policy { strategy: Strategy::Recreate, ..policy.clone() };
    hex(&Sha256::digest(format!("{policy:?}")))[..16].to_owned()
}

/// The living controller that looks after an environment; of several the one that has run longest.
///
/// # Errors
/// When the ledger can't be read.
pub async fn controller_of(
    ledger: &dyn Ledger,
    key: &EnvironmentKey,
) -> Result<Option<ControllerBeat>, LedgerError> {
    let views = ledger.controllers().await?;
    let found = views.into_iter().find(|view| view.alive && view.beat.tends(key).is_some());
    Ok(found.map(|view| view.beat))
}

/// Whether a process is the one that leads for an environment.
pub(crate) fn leads(views: &[ControllerView], key: &EnvironmentKey, holder: &Holder) -> bool {
    let first = views.iter().find(|view| view.alive && view.beat.tends(key).is_some());
    first.is_some_and(|view| is_same(&view.beat.holder, holder))
}

fn is_same(a: &Holder, b: &Holder) -> bool {
    (a.pid, a.pid_start, &a.boot_id) == (b.pid, b.pid_start, &b.boot_id)
}

/// What this controller says of itself now.
pub(crate) async fn beat(
    ledger: &dyn Ledger,
    holder: &Holder,
    started_at: Timestamp,
    contexts: &[Arc<Context>],
) -> Result<ControllerBeat, LedgerError> {
    let hash_key = ledger.hash_key().await?;
    let tended = |cx: &Arc<Context>| Tended {
        key: cx.key.clone(),
        folder: cx.folder.clone(),
        policy: policy_digest(&cx.policy),
        secrets: cx
            .secrets
            .iter()
            .map(|(name, value)| (name.clone(), keyed_hash(&hash_key, value.expose())))
            .collect(),
    };
    Ok(ControllerBeat {
        holder: holder.clone(),
        program: PROGRAM.to_owned(),
        started_at,
        environments: contexts.iter().map(tended).collect(),
    })
}
