//! `rollback --service`: where some services of an app go back to, while the others stay.

use std::collections::BTreeSet;
use std::sync::Arc;

use backout_core::ids::{ReleaseId, ServiceName};
use backout_core::model::{Deployment, DeploymentStatus, EnvironmentRecord, Release, RollbackType};
use backout_core::plan::Plan;

use super::rollback::{RollbackTarget, RollbackWishes};
use super::{EngineError, Refused};
use crate::context::Context;
use crate::journal::Journal;
use crate::partial::{self, Changed};
use crate::readiness::rejected_releases;
use crate::situation;

/// What the named services become.
pub(crate) struct Aim {
    /// The deployment that they are taken from.
    pub target: Deployment,
    pub rollback_type: RollbackType,
    /// What is live then.
    pub release: Arc<Release>,
    /// What is live now.
    pub live: Arc<Release>,
    pub named: Vec<ServiceName>,
    /// What a person should know first.
    pub warning: Option<String>,
}

/// Finds where the named services go back to.
///
/// # Errors
/// Refused while something else is under way, and where there is nothing to go back to.
pub(crate) async fn aim(
    cx: &Context,
    wishes: &RollbackWishes,
    environment: &EnvironmentRecord,
    open: Option<&Plan>,
    history: &[Deployment],
    find: impl AsyncFnOnce() -> Result<(Deployment, RollbackType), EngineError>,
) -> Result<Aim, EngineError> {
    if let Some(plan) = open {
        return Err(not_beside(cx, plan).await.into());
    }
    let live = situation::live(cx, environment).await?.ok_or_else(|| {
        let hint = "`backout recover` starts what was stopped, `backout rollback` goes back whole";
        Refused::new(
            "nothing is live, so there is nothing that the other services could stay",
            hint,
        )
    })?;
    let live = situation::release(cx, &live.release).await?;
    let search = Search { cx, history, live: &live, named: wishes.services.iter().collect() };
    let (target, rollback_type) = match &wishes.target {
        RollbackTarget::LastKnownGood => (search.last_known_good().await?, RollbackType::Previous),
        RollbackTarget::Version(version) => {
            (search.version(version.as_str()).await?, RollbackType::Specific)
        }
        RollbackTarget::Revision(_) | RollbackTarget::At(_) => find().await?,
    };
    let from = situation::release(cx, &target.release).await?;
    let all: BTreeSet<&ServiceName> =
        live.content.services.keys().chain(from.content.services.keys()).collect();
    let place = format!("#{} {} or what is live", target.number, target.version);
    let named = partial::known(&wishes.services, all.into_iter(), &place)?;
    if !search.differs(&from) {
        let message = format!(
            "{} is in #{} {} what it is now",
            search.names(),
            target.number,
            target.version
        );
        return Err(Refused::new(message, "name an older one: `backout history` lists them").into());
    }
    let config = live.content.config.clone();
    let release = Arc::new(partial::mixed(cx, &Changed::Old(&from), &live, &named, config)?);
    let warning = other_config(&target, &from, &live);
    let named = named.into_iter().collect();
    Ok(Aim { target, rollback_type, release, live, named, warning })
}

/// What is open goes back as a whole or goes on as a whole; with what to do first.
async fn not_beside(cx: &Context, plan: &Plan) -> Refused {
    let number = plan.deployment.map(|number| format!(" #{number}")).unwrap_or_default();
    let what = format!("{}{number}", plan.kind);
    let journal = Journal::load(cx.ledger.as_ref(), plan.clone()).await;
    let stuck = journal.ok().and_then(|journal| journal.state.stuck);
    let Some((step, _)) = stuck else {
        let message = format!("{what} is under way: it goes back as a whole or goes on as a whole");
        let hint = "`backout rollback` without --service takes it back, `backout status -w` waits";
        return Refused::new(message, hint);
    };
    let step = plan.steps.get(step).map_or("its end", |step| step.name.as_str());
    let message = format!("{what} is stuck at {step}, and no part goes back before it has ended");
    let hint = "mend the cause, then `backout retry` (or `backout recover`) goes on with it";
    let mut refused = Refused::new(message, hint);
    refused.hints.push("or `backout rollback`, without --service, goes back as a whole".to_owned());
    refused.hints.push("or `backout resolve --reason TEXT` ends it as it is".to_owned());
    refused
}

fn other_config(target: &Deployment, from: &Release, live: &Release) -> Option<String> {
    let paths = partial::differing_config(&from.content.config, &live.content.config);
    (!paths.is_empty()).then(|| {
        format!(
            "config files belong to the whole app and stay as they are: {} differ from those of #{} {}; a rollback \
             without --service puts them back",
            paths.join(", "),
            target.number,
            target.version
        )
    })
}

struct Search<'a> {
    cx: &'a Context,
    history: &'a [Deployment],
    live: &'a Release,
    named: BTreeSet<&'a ServiceName>,
}

impl Search<'_> {
    fn names(&self) -> String {
        let names: Vec<&str> = self.named.iter().map(|name| name.as_str()).collect();
        names.join(", ")
    }

    /// Some named service is another there than it is now.
    fn differs(&self, release: &Release) -> bool {
        let of = |release: &Release, name: &ServiceName| {
            let there = release.content.services.contains_key(name);
            there.then(|| release.runs_as(name).clone())
        };
        self.named.iter().any(|name| of(release, name) != of(self.live, name))
    }

    /// What the named services were in releases that somebody rolled back from as their own.
    async fn bad(&self) -> Result<BTreeSet<ReleaseId>, EngineError> {
        let mut bad = BTreeSet::new();
        for id in rejected_releases(self.history) {
            let release = situation::release(self.cx, &id).await?;
            if self.named.iter().any(|name| *release.runs_as(name) == id) {
                bad.insert(id);
            }
        }
        Ok(bad)
    }

    /// The newest good deployment in which they were something else. A superseded one only where there is no other.
    async fn last_known_good(&self) -> Result<Deployment, EngineError> {
        let bad = self.bad().await?;
        let rejected = rejected_releases(self.history);
        for status in [DeploymentStatus::Stable, DeploymentStatus::Superseded] {
            for row in self.history.iter().filter(|row| row.status == status) {
                let release = situation::release(self.cx, &row.release).await?;
                let has = self.named.iter().all(|name| {
                    release.content.services.contains_key(*name)
                        && !bad.contains(release.runs_as(name))
                });
                if has && !rejected.contains(&row.release) && self.differs(&release) {
                    return Ok(row.clone());
                }
            }
        }
        let message = format!(
            "there is nothing to go back to: {} was never anything else in a release that was stable here",
            self.names()
        );
        let hint = "name a deployment with --to-revision (`backout history` lists them)";
        Err(Refused::new(message, hint).into())
    }

    /// The newest deployment in which all of them had this version; one that was stable before any other.
    async fn version(&self, version: &str) -> Result<Deployment, EngineError> {
        let mut found: Option<&Deployment> = None;
        for row in self.history.iter().filter(|row| row.status != DeploymentStatus::InProgress) {
            let release = situation::release(self.cx, &row.release).await?;
            let has = |name: &&&ServiceName| {
                release.content.services.contains_key(**name)
                    && release.content.version_of(name).as_str() == version
            };
            if self.named.iter().all(|name| has(&name)) && self.differs(&release) {
                if row.stable_at.is_some() {
                    return Ok(row.clone());
                }
                found = found.or(Some(row));
            }
        }
        found.cloned().ok_or_else(|| {
            let message =
                format!("{} never had version {version} here, or has it now", self.names());
            Refused::new(message, "`backout history` lists what there was").into()
        })
    }
}
