//! The incident bundle: what is left of a release that is taken back, kept before it is stopped.
//!
//! Collecting is bounded in time and size and never fails a way back: what could not be had is named in the
//! bundle, and where no bundle could be kept there is a warning.

mod collect;
mod diff;
mod redact;
mod store;

use std::path::Path;
use std::time::Duration;

use backout_core::plan::{Action, Plan};
use backout_core::ports::Receipt;
use tokio::time::Instant;

pub use store::{BUNDLE_FORMAT, Bundle, BundleFile, Manifest, list, read};

use crate::context::Context;
use crate::effects::Holds;
use crate::faults::boundary;
use crate::journal::Journal;

/// The name of the bundle that a plan keeps.
#[must_use]
pub fn bundle_id(plan: &Plan) -> String {
    match &plan.rollback_id {
        Some(id) => id.to_string(),
        None => plan.operation.to_string(),
    }
}

/// Whether the bundle of an operation is there: it got its name when it was whole.
pub(crate) fn is_kept(cx: &Context, journal: &Journal) -> Holds {
    let there = |folder: &Path| matches!(read(folder, &bundle_id(&journal.plan)), Ok(Some(_)));
    if cx.incidents.as_deref().is_some_and(there) { Holds::Yes } else { Holds::No }
}

/// Collects and keeps; whatever goes wrong is a warning.
pub(crate) async fn keep(cx: &Context, journal: &Journal, action: &Action) -> Receipt {
    let (Some(folder), Action::KeepEvidence { slot, release, deployment, limit_ms }) =
        (cx.incidents.clone(), action)
    else {
        return Receipt { message: "nowhere to keep it".to_owned(), ..Receipt::default() };
    };
    let end = Instant::now() + Duration::from_millis(*limit_ms);
    // The rest is for writing.
    let until = end - Duration::from_millis(*limit_ms / 5);
    let what = collect::What { slot: *slot, release, deployment: *deployment, until };
    let (manifest, files) = collect::collect(cx, journal, &what).await;
    boundary("during_effect", "keep_evidence");
    let (problems, key) = (manifest.problems.clone(), manifest.key.clone());
    let (count, bytes) = (files.len(), files.iter().map(|(_, text)| text.len()).sum::<usize>());
    let now = cx.now();
    let writing = tokio::task::spawn_blocking(move || {
        let path = store::write(&folder, &manifest, &files)?;
        store::prune(&folder, &key, now);
        Ok::<_, std::io::Error>(path)
    });
    let why = match tokio::time::timeout_at(end, writing).await {
        Ok(Ok(Ok(path))) => {
            return Receipt {
                message: format!("{count} files, {} KiB", bytes.div_ceil(1024)),
                warnings: problems.iter().map(|why| format!("evidence: {why}")).collect(),
                data: serde_json::json!({ "bundle": path, "files": count, "bytes": bytes }),
                ..Receipt::default()
            };
        }
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it took longer than {} s", limit_ms / 1000),
    };
    let warning = format!("the incident bundle was not kept: {why}");
    Receipt { message: "not kept".to_owned(), warnings: vec![warning], ..Receipt::default() }
}

/// A removal that hangs must not hold the end of an operation up.
const TIDY: Duration = Duration::from_secs(10);

/// Removes what is too old, and what killed processes have left half-made.
pub(crate) async fn tidy(cx: &Context) {
    let Some(folder) = cx.incidents.clone() else { return };
    let (key, now) = (cx.key.clone(), cx.now());
    let work = tokio::task::spawn_blocking(move || store::prune(&folder, &key, now));
    let _ = tokio::time::timeout(TIDY, work).await;
}
