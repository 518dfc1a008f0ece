//! The drill: the way back rehearsed beside the running release.

mod beside;
mod in_place;
mod kills;

use serde_json::Value;

use crate::support::{Ran, World};

/// `drill --yes --format json ARGS`.
#[track_caller]
pub fn drill(world: &World, args: &[&str]) -> Ran {
    let all: Vec<&str> =
        ["drill", "--yes", "--format", "json"].into_iter().chain(args.iter().copied()).collect();
    world.run(&all)
}

/// The check `old_release_startable` of `status`, and the whole readiness.
#[track_caller]
pub fn startable(world: &World) -> (Value, Value) {
    let readiness = world.status()["rollback_readiness"].clone();
    let checks = readiness["checks"].as_array().unwrap_or_else(|| panic!("{readiness:#}"));
    let found = checks.iter().find(|check| check["name"] == "old_release_startable");
    (found.unwrap_or_else(|| panic!("{readiness:#}")).clone(), readiness)
}
