//! What `doctor` asks of an environment, beyond what a [`View`] shows.

use std::collections::BTreeMap;

use backout_core::ids::{ReleaseId, ServiceName, Slot, Version};
use backout_core::model::{RELEASE_FORMAT, Release, ReleaseContent};
use backout_core::ports::{AdapterError, Observed};

use super::EngineError;
use super::claim::ours_alone;
use crate::context::Context;
use crate::situation;
use crate::view::View;

/// Whether nothing here carries another ledger's marker.
///
/// # Errors
/// Refused, naming what does.
pub async fn managed_by_us(cx: &Context) -> Result<(), EngineError> {
    ours_alone(cx).await
}

/// What really runs of each service that is live.
pub async fn observe_live(cx: &Context, view: &View) -> BTreeMap<ServiceName, Observed> {
    let mut observed = BTreeMap::new();
    let (Some(live), Some(release)) = (&view.live, &view.release) else { return observed };
    let services = release.content.services.values();
    for service in services.filter(|service| !crate::jobs::is_job(service)).map(|s| &s.name) {
        let unit = situation::unit(cx, service, live.slot);
        observed.insert(service.clone(), situation::observe(cx, &unit, Some(release)).await);
    }
    observed
}

/// Programs outside of Backout that the next deploy would find in its way, one line each.
///
/// # Errors
/// When the target can't tell.
pub async fn obstacles(cx: &Context, view: &View) -> Result<Vec<String>, AdapterError> {
    let version = Version::new("next").expect("it is a valid label");
    let next = Release {
        id: ReleaseId::new("rel_next").expect("it is a valid id"),
        content: ReleaseContent {
            format: RELEASE_FORMAT,
            app: cx.key.app.clone(),
            version,
            services: cx.services.clone(),
            artifacts: Vec::new(),
            config: Vec::new(),
            origins: BTreeMap::new(),
        },
        created_at: cx.now(),
        created_by: cx.requested_by.clone(),
    };
    let slot = view.live.as_ref().map_or(Slot::A, |live| live.slot);
    let mut found = Vec::new();
    for service in cx.services.keys() {
        for unit in situation::units(cx, service, slot) {
            found.extend(cx.target.obstacles(&unit, &next).await?);
        }
    }
    Ok(found)
}
