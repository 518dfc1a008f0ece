//! What runs in a unit ends. Volumes stay.

use std::time::Duration;

use backout_core::ids::{Slot, Unit};
use backout_core::model::Release;
use backout_core::ports::{AdapterError, Receipt, StepCx};

use super::place::Place;
use super::{ComposeTargetOptions, ENGINE_PATIENCE, labels, links, observe, project};
use crate::docker::{Call, Container, said};
use crate::host::Ended;

/// Between asking and forcing where nobody says.
pub(super) const DEFAULT_GRACE_MS: u64 = 10_000;
/// The engine's own time on top of a grace period.
const MARGIN: Duration = Duration::from_secs(30);

pub(super) async fn stop(
    options: &ComposeTargetOptions,
    unit: &Unit,
    release: &Release,
    grace_ms: u64,
    cx: &StepCx,
) -> Result<Receipt, AdapterError> {
    let place = Place::of(options, &unit.key);
    options.docker.await_engine(ENGINE_PATIENCE.min(cx.timeout / 2)).await?;
    let _lock = place.enter(cx.timeout / 2).await?;
    let mut containers = options.docker.containers(&labels::of_unit(unit)).await?;
    containers.extend(observe::foreign(options, unit, Some(release)).await?);
    containers.sort_by(|a, b| a.id.cmp(&b.id));
    containers.dedup_by(|a, b| a.id == b.id);
    let order =
        options.spec(unit, Some(release)).map(|spec| spec.services.clone()).unwrap_or_default();
    let rank = |c: &Container| {
        let name = c.label(labels::COMPOSE_SERVICE).unwrap_or_default();
        std::cmp::Reverse(order.iter().position(|service| service == name))
    };
    // The last started first, each with those of its own service.
    containers.sort_by_key(rank);
    let count = containers.len();
    end(options, &containers, grace_ms).await?;
    if let Ok(spec) = options.spec(unit, Some(release)) {
        links::remove_networks(options, &project(spec, Slot::A), &project(spec, unit.slot)).await?;
    }
    place.forget(unit);
    let message = match count {
        0 => "nothing ran".to_owned(),
        1 => "1 container ended; volumes stay".to_owned(),
        count => format!("{count} containers ended; volumes stay"),
    };
    Ok(Receipt { message, ..Receipt::default() })
}

/// Ends and removes containers in this order; a `stop_grace_period` of the file goes before ours.
pub(super) async fn end(
    options: &ComposeTargetOptions,
    containers: &[Container],
    grace_ms: u64,
) -> Result<(), AdapterError> {
    for group in containers.chunk_by(|a, b| service(a) == service(b)) {
        let grace = group.iter().filter_map(|c| c.config.stop_timeout).max();
        let grace_s = grace.unwrap_or_else(|| grace_ms.div_ceil(1000));
        let ids = group.iter().map(|c| c.id.as_str());
        let running: Vec<&str> = group
            .iter()
            .filter(|c| c.state.status != "exited" && c.state.status != "created")
            .map(|c| c.id.as_str())
            .collect();
        if !running.is_empty() {
            let seconds = grace_s.to_string();
            let call = Call::new(["stop", "-t", seconds.as_str()].into_iter().chain(running));
            let timeout = Duration::from_secs(grace_s) + MARGIN;
            run(options, Call { timeout, ..call }, "end").await?;
        }
        // Without its volumes: those without a name too are somebody's data.
        let call = Call::new(["rm", "--force"].into_iter().chain(ids));
        run(options, Call { timeout: MARGIN, ..call }, "remove").await?;
    }
    Ok(())
}

fn service(container: &Container) -> Option<&str> {
    container.label(labels::COMPOSE_SERVICE)
}

async fn run(options: &ComposeTargetOptions, call: Call, verb: &str) -> Result<(), AdapterError> {
    let finished = options.docker.run(call).await?;
    let words = said(&finished);
    match finished.ended {
        Ended::Exited(0) => Ok(()),
        // Somebody else was faster.
        Ended::Exited(_)
            if words.lines().all(|l| {
                l.contains("No such container") || l.contains("is already in progress")
            }) =>
        {
            Ok(())
        }
        Ended::Exited(_) => {
            Err(AdapterError::transient(format!("failed to {verb} containers: {words}")))
        }
        Ended::Signalled(_) | Ended::TimedOut => Err(AdapterError::unknown(format!(
            "failed to learn whether containers did {verb}: {words}"
        ))),
    }
}
