//! `adopt`: record what runs now as deployment #0. It starts and stops nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backout_core::ids::{HostName, ServiceName, Slot, Version};
use backout_core::model::{Release, SlotRecord, SlotState, TargetKind};
use backout_core::plan::Plan;
use backout_core::ports::{Change, Running};
use backout_core::saga::Ending;

use super::claim::{Claimed, claim, give_back};
use super::take_back::plan_context;
use super::{EngineError, Refused};
use crate::context::Context;
use crate::executor::{Executor, Outcome};
use crate::journal::{self, Journal};
use crate::readiness::history;
use crate::situation;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct AdoptWish {
    /// The label; a script may be asked for it.
    pub version: Option<Version>,
    /// Why.
    pub reason: Option<String>,
}

/// Records what is on disk (and, for a script, what it says runs) as #0.
///
/// # Errors
/// Refused when the environment has deployments already, or no version can be told.
pub async fn adopt(cx: &Context, wish: &AdoptWish) -> Result<(Outcome, Arc<Release>), EngineError> {
    let claimed = claim(cx).await?;
    let result = Box::pin(run(cx, wish, &claimed)).await;
    give_back(cx, claimed.keeper).await;
    result
}

async fn run(
    cx: &Context,
    wish: &AdoptWish,
    claimed: &Claimed,
) -> Result<(Outcome, Arc<Release>), EngineError> {
    if let Some(row) = history(cx).await?.first() {
        return Err(Refused::new(
            format!(
                "{} has deployments already, the newest is #{} {}",
                cx.key, row.number, row.version
            ),
            "adopt is for an environment that Backout has never deployed to",
        )
        .into());
    }
    let Adoptable { version, runs, spoken } = version_now(cx, wish).await?;
    let release = Arc::new(crate::release::build_running(cx, &version).await?);
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    // After an eject numbers go on: each is given once.
    let number = environment.begins_at;
    let plan = plan(cx, wish, &release, number);
    let mut journal = Journal::open(cx, plan, &environment, None, claimed.keeper.lease.epoch)?;
    journal.add(Change::Release(Box::new(Release::clone(&release))));
    let row = &mut journal.rows.environment;
    row.live = Some(number);
    row.next_number = row.next_number.max(number + 1);
    row.scripts_spoken = spoken;
    if runs {
        let mut record = SlotRecord {
            deployment: number,
            release: release.id.clone(),
            version,
            state: SlotState::Running,
            services: BTreeSet::new(),
            hosts: BTreeMap::new(),
        };
        for service in release.content.services.keys() {
            for unit in situation::units(cx, service, Slot::A) {
                record.place(service, &unit.host);
            }
        }
        row.slots.insert(Slot::A, record);
    }
    journal.flush(cx.ledger.as_ref(), &claimed.keeper.lease).await?;
    let outcome = Box::pin(Executor::new(cx, &claimed.keeper, journal).run()).await;
    match outcome.last() {
        Outcome::Ended { ending: Ending::NothingChanged { message }, .. } => {
            Err(EngineError::Failed(message.clone()))
        }
        _ => Ok((outcome, release)),
    }
}

fn plan(cx: &Context, wish: &AdoptWish, release: &Release, number: u64) -> Plan {
    let pcx = plan_context(cx, number, wish.reason.clone(), false, Vec::new());
    backout_core::plan::plan_adopt(&pcx, release)
}

/// The version, and whether it was seen running by the target itself.
/// What is there to be adopted.
struct Adoptable {
    version: Version,
    /// Something runs, as far as anybody can tell.
    runs: bool,
    /// Where a script has printed a version.
    spoken: BTreeMap<ServiceName, BTreeSet<HostName>>,
}

async fn version_now(cx: &Context, wish: &AdoptWish) -> Result<Adoptable, EngineError> {
    let mut versions: BTreeMap<String, Version> = BTreeMap::new();
    let mut spoken: BTreeMap<ServiceName, BTreeSet<HostName>> = BTreeMap::new();
    let mut runs = false;
    if cx.target.capabilities().sees_foreign {
        for service in cx.services.keys() {
            // Its own definition says what to ask for.
            let draft = draft(cx)?;
            for unit in situation::units(cx, service, Slot::A) {
                let observed = cx.target.observe(&unit, Some(&draft)).await?;
                runs |= observed.running == Running::Yes;
                let Some(version) = observed.version else { continue };
                if cx.policy.target == TargetKind::Script {
                    spoken.entry(service.clone()).or_default().insert(unit.host.clone());
                }
                let known = versions.entry(service.to_string()).or_insert_with(|| version.clone());
                if *known != version && wish.version.is_none() {
                    let message = format!(
                        "{} runs {version}, another host runs {known}",
                        situation::who(&unit)
                    );
                    return Err(Refused::new(message, "say with --version V what it is").into());
                }
            }
        }
    }
    if let Some(version) = &wish.version {
        // Of a script that can't tell, the person who adopts it is believed.
        let runs = runs || cx.policy.target == TargetKind::Script;
        return Ok(Adoptable { version: version.clone(), runs, spoken });
    }
    match versions.into_values().next() {
        Some(version) => Ok(Adoptable { version, runs: true, spoken }),
        None => {
            Err(Refused::new("which version runs can't be told", "say it with --version V").into())
        }
    }
}

/// A release of today's definition under no particular version, only to ask the target.
fn draft(cx: &Context) -> Result<Release, EngineError> {
    let version = Version::new("adopt").map_err(|error| EngineError::Failed(error.to_string()))?;
    let content = backout_core::model::ReleaseContent {
        format: backout_core::model::RELEASE_FORMAT,
        app: cx.key.app.clone(),
        version,
        services: cx.services.clone(),
        artifacts: Vec::new(),
        config: Vec::new(),
        origins: BTreeMap::new(),
    };
    Ok(Release {
        id: content.id(),
        content,
        created_at: cx.now(),
        created_by: cx.requested_by.clone(),
    })
}
