//! The service manager and the units.

use backout_core::model::TargetSpec;

use super::Item;
use crate::cli::reading::Place;
use crate::registry;

/// Checks of an environment whose target is systemd.
pub async fn items(place: &Place) -> Vec<Item> {
    let settings = &place.loaded.settings;
    let is_systemd = |target: &TargetSpec| matches!(target, TargetSpec::Systemd(_));
    if !settings.services.values().any(|service| is_systemd(&service.target)) {
        return Vec::new();
    }
    let found = registry::check_systemd(settings, &place.loaded.folder).await;
    let item = |(name, result): registry::Finding| match result {
        Ok(message) => Item::pass(name, message),
        Err(error) => {
            let item = Item::error(name, error.message);
            error.hint.into_iter().fold(item, Item::fix)
        }
    };
    found.into_iter().map(item).collect()
}
