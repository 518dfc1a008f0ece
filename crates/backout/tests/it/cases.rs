//! Deploys and rollbacks as people run them, to their end.

mod bad;
mod first;
mod going_back;
mod kept;
mod strategies;
mod together;

use crate::support::{Service, World, Yaml};

/// A build of which some requests fail.
pub const FAILS: Service<'static> =
    Service { flags: "--fail-percent 60", claims: None, before: "" };

/// A build that says 200 with `unhealthy`.
pub const UNHEALTHY: Service<'static> =
    Service { flags: "--health-unhealthy", claims: None, before: "" };

/// A world in which these versions were deployed one after the other.
#[track_caller]
pub fn world_with(yaml: &Yaml, versions: &[&str]) -> World {
    let world = World::new(yaml);
    for version in versions {
        world.deployed(version);
    }
    world
}
