//! The sides of a traffic move, as ledger and target know them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use backout_core::ids::Slot;
use backout_core::model::{OperationKind, ProbeSpec, Release, SlotRecord};
use backout_core::plan::{Plan, TrafficStep};
use backout_core::ports::{AdapterError, RouterSide, Running};
use futures_util::future::try_join_all;

use crate::context::Context;
use crate::journal::Journal;
use crate::situation;

/// What a router is told of each side.
pub(crate) type Sides = BTreeMap<Slot, RouterSide>;

/// The weights that a step wants.
pub(crate) fn weights(traffic: &TrafficStep) -> BTreeMap<Slot, u8> {
    let mut weights = BTreeMap::from([(traffic.side, traffic.percent)]);
    if let Some(rest) = traffic.rest {
        weights.insert(rest, 100 - traffic.percent);
    }
    weights
}

/// The side that a step gives users to.
pub(crate) fn gaining(traffic: &TrafficStep) -> Option<Slot> {
    if traffic.percent == 0 { traffic.rest } else { Some(traffic.side) }
}

/// The sides that a step is about, with what the ledger knows of them. What only the target knows is asked for apart:
/// that changes nothing, so it may go on while the intent of the move is made durable.
pub(crate) struct Wanted(Vec<Side>);

struct Side {
    slot: Slot,
    weight: u8,
    deployment: u64,
    record: SlotRecord,
    release: Arc<Release>,
}

impl Wanted {
    /// Reads the ledger.
    pub async fn of(
        cx: &Context,
        journal: &Journal,
        traffic: &TrafficStep,
    ) -> Result<Self, AdapterError> {
        let mut sides = Vec::new();
        for (slot, weight) in weights(traffic) {
            let Some(record) = journal.rows.environment.slots.get(&slot) else {
                if weight > 0 {
                    return Err(AdapterError::permanent(format!(
                        "failed to move traffic: slot {slot} holds nothing"
                    )));
                }
                continue;
            };
            let release = situation::release(cx, &record.release)
                .await
                .map_err(|error| AdapterError::transient(error.to_string()))?;
            let deployment = deployment_of(&journal.plan, slot, record.deployment);
            sides.push(Side { slot, weight, deployment, record: record.clone(), release });
        }
        Ok(Self(sides))
    }

    /// Asks the target where they are now, all at once.
    pub async fn ask(self, cx: &Context) -> Result<Sides, AdapterError> {
        Ok(try_join_all(self.0.into_iter().map(|side| side.ask(cx))).await?.into_iter().collect())
    }
}

impl Side {
    async fn ask(self, cx: &Context) -> Result<(Slot, RouterSide), AdapterError> {
        let Self { slot, weight, deployment, record, release } = self;
        let address = serving_address(cx, &release, slot).await?;
        if weight > 0 && address.is_none() && cx.target.capabilities().addressable {
            return Err(AdapterError::transient(format!(
                "failed to move traffic: slot {slot} has no address"
            )));
        }
        let check_path = check_path(&release);
        let (release, version) = (record.release, record.version);
        Ok((slot, RouterSide { address, deployment, release, version, check_path }))
    }
}

/// A warm side that a rollback goes back to runs for the new deployment from the move on: counted under that
/// number, its requests are judged when it is verified.
fn deployment_of(plan: &Plan, slot: Slot, recorded: u64) -> u64 {
    match plan.deployment {
        Some(number) if plan.kind == OperationKind::Rollback && plan.slot == slot => number,
        _ => recorded,
    }
}

async fn serving_address(
    cx: &Context,
    release: &Release,
    slot: Slot,
) -> Result<Option<SocketAddr>, AdapterError> {
    for service in release.content.services.values().filter(|service| service.traffic) {
        let unit = situation::unit(cx, &service.name, slot);
        let observed = cx.target.observe(&unit, Some(release)).await?;
        if observed.running != Running::No && observed.address.is_some() {
            return Ok(observed.address);
        }
    }
    Ok(None)
}

/// Path of the first URL that names a side: what the proxy itself asks before it moves traffic alone.
fn check_path(release: &Release) -> Option<String> {
    release.content.services.values().filter(|s| s.traffic).flat_map(|s| &s.health.probes).find_map(
        |probe| match probe {
            ProbeSpec::Http { check, .. } if probe.names_a_side() => {
                let after_scheme = check.url.split_once("://")?.1;
                Some(after_scheme.find('/').map_or("/", |at| &after_scheme[at..]).to_owned())
            }
            _ => None,
        },
    )
}
