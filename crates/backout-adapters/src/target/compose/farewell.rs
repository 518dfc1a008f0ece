//! What becomes of containers when Backout goes: they stay, and our names for their images go.

use backout_core::ids::Unit;
use backout_core::model::Release;
use backout_core::ports::{AdapterError, Farewell};

use super::place::Place;
use super::{ComposeTargetOptions, labels, project};
use crate::docker::Container;

pub(super) async fn farewell(
    options: &ComposeTargetOptions,
    unit: &Unit,
    release: &Release,
    act: bool,
) -> Result<Farewell, AdapterError> {
    let spec = options.spec(unit, Some(release))?;
    let containers = options.docker.containers(&labels::of_unit(unit)).await?;
    let names: Vec<&str> = containers.iter().map(|c| c.name.trim_start_matches('/')).collect();
    let mut farewell = Farewell {
        removed: vec![options.images.describe()],
        stays: Vec::new(),
        keeps_copies: false,
    };
    if act {
        // Names of images that run: without force the engine keeps those.
        let running = containers.iter().filter(|c| c.is_running()).map(Container::image_digest);
        let ids: Vec<&str> = containers.iter().map(|c| c.id.as_str()).collect();
        if !ids.is_empty() {
            Place::of(options, &unit.key).eject(unit, &ids)?;
        }
        options.images.unname(&running.collect::<Vec<_>>()).await?;
        Place::of(options, &unit.key).forget_adopted(unit);
    }
    if !names.is_empty() {
        let project = project(spec, unit.slot);
        farewell.stays = vec![
            format!("{} of project {project} go on", names.join(", ")),
            format!(
                "they carry labels of Backout's until they are made anew: `docker compose -p {project} up -d` does, \
                 from your own file"
            ),
            format!(
                "copies of config files that they may have mounted stay in {}",
                options.state_dir.join("compose").display()
            ),
        ];
    }
    Ok(farewell)
}
