//! Labels that say whose a container is.

use backout_core::ids::{EnvironmentKey, LedgerId, Unit};
use backout_core::model::Release;

use crate::docker::Container;

pub(super) const APP: &str = "backout.app";
pub(super) const ENVIRONMENT: &str = "backout.environment";
pub(super) const LEDGER: &str = "backout.ledger";
pub(super) const SERVICE: &str = "backout.service";
pub(super) const SLOT: &str = "backout.slot";
pub(super) const VERSION: &str = "backout.version";
pub(super) const RELEASE: &str = "backout.release";
pub(super) const DEPLOYMENT: &str = "backout.deployment";
/// All services of the compose file that belong to the unit.
pub(super) const SERVICES: &str = "backout.services";
/// It ends by itself, and the others wait for that.
pub(super) const JOB: &str = "backout.job";
/// The port that takes requests, such as `8080/tcp`.
pub(super) const PORT: &str = "backout.port";
/// The digest of the image that it was started from.
pub(super) const IMAGE: &str = "backout.image";

pub(super) const PROJECT: &str = "com.docker.compose.project";
pub(super) const COMPOSE_SERVICE: &str = "com.docker.compose.service";
/// Compose's count of a service's containers, from one.
pub(super) const NUMBER: &str = "com.docker.compose.container-number";
pub(super) const ONE_OFF: &str = "com.docker.compose.oneoff";

/// Filters that find every container of a unit.
pub(super) fn of_unit(unit: &Unit) -> Vec<String> {
    vec![
        format!("{APP}={}", unit.key.app),
        format!("{ENVIRONMENT}={}", unit.key.environment),
        format!("{SERVICE}={}", unit.service),
        format!("{SLOT}={}", unit.slot),
    ]
}

/// Labels of everything that an environment has.
pub(super) fn of_environment(
    key: &EnvironmentKey,
    ledger: &LedgerId,
) -> Vec<(&'static str, String)> {
    vec![
        (APP, key.app.to_string()),
        (ENVIRONMENT, key.environment.to_string()),
        (LEDGER, ledger.to_string()),
    ]
}

/// Labels of what a start makes.
pub(super) fn of_start(
    unit: &Unit,
    release: &Release,
    deployment: u64,
    services: &[String],
    ledger: &LedgerId,
) -> Vec<(&'static str, String)> {
    let mut all = of_environment(&unit.key, ledger);
    all.extend([
        (SERVICE, unit.service.to_string()),
        (SLOT, unit.slot.to_string()),
        (VERSION, release.content.version.to_string()),
        (RELEASE, release.id.to_string()),
        (DEPLOYMENT, deployment.to_string()),
        (SERVICES, services.join(",")),
    ]);
    all
}

/// The app and environment that a container belongs to, if it is one of ours.
pub(super) fn owner(container: &Container) -> Option<(&str, &str)> {
    Some((container.label(APP)?, container.label(ENVIRONMENT)?))
}

/// Its place among the containers of its service.
pub(super) fn number(container: &Container) -> u64 {
    container.label(NUMBER).and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
}

pub(super) fn is_of(container: &Container, key: &EnvironmentKey) -> bool {
    owner(container) == Some((key.app.as_str(), key.environment.as_str()))
}
