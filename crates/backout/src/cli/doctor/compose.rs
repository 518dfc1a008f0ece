//! Docker, compose and the compose file.

use backout_core::model::TargetSpec;

use super::Item;
use crate::cli::reading::Place;
use crate::registry;

/// Checks of an environment whose target is compose; each compose definition once.
pub async fn items(place: &Place) -> Vec<Item> {
    let settings = &place.loaded.settings;
    let spec = settings.services.values().find_map(|service| match &service.target {
        TargetSpec::Compose(spec) => Some(spec),
        _ => None,
    });
    let Some(spec) = spec else { return Vec::new() };
    let found = registry::check_compose(settings, &place.loaded.folder, spec).await;
    let item =
        |(name, result): (&str, Result<String, backout_core::ports::AdapterError>)| match result {
            Ok(message) => Item::pass(name, message),
            Err(error) => {
                let item = Item::error(name, error.message);
                error.hint.into_iter().fold(item, Item::fix)
            }
        };
    found.into_iter().map(item).collect()
}
