//! Whether a unit can be started once more beside what runs, and touch nothing of that.

use backout_core::ids::Unit;
use backout_core::model::Release;
use backout_core::ports::AdapterError;

use super::ComposeTargetOptions;
use super::definition::{self, Definition};

/// Why it can't.
pub(super) async fn not_beside(
    options: &ComposeTargetOptions,
    unit: &Unit,
    release: &Release,
) -> Result<Option<String>, AdapterError> {
    let spec = options.spec(unit, Some(release))?;
    // What belongs to no unit is shared by both sides, and a start of the older release would change it.
    let shared = release
        .content
        .artifacts
        .iter()
        .filter(|artifact| artifact.service == unit.service)
        .filter_map(|artifact| artifact.path.split_once('='))
        .map(|(name, _)| name)
        .find(|name| !spec.services.iter().any(|member| member == name));
    if let Some(name) = shared {
        return Ok(Some(format!("a start would touch {name}, which both sides share")));
    }
    let copies = tempfile::tempdir().map_err(|e| AdapterError::transient(e.to_string()))?;
    let folder = copies.path().join("files");
    let config = &release.content.config;
    definition::lay_out(&folder, config, options.blobs.as_ref(), &options.secrets).await?;
    let version = &release.content.version;
    let definition = Definition { folder: &folder, spec, key: &unit.key, version };
    let model = definition::resolve(&options.docker, &definition, &options.secrets).await?;
    let job = model.jobs().into_iter().find(|job| spec.services.contains(job));
    Ok(job.map(|job| format!("{job} is a job that ends by itself, and would run once more")))
}
