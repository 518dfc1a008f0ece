//! `deploy`: validate, prove the way back, then run the plan.

use std::sync::Arc;

use backout_core::ids::{ServiceName, Slot, Version};
use backout_core::model::{
    ConfigFile, DeployOrder, Deployment, DeploymentKind, DeploymentStatus, EnvironmentRecord,
    ReadinessCheck, Release, Request, RequestKind, Severity,
};
use backout_core::plan::{Plan, Seen, Situation, lint, plan_deploy};
use backout_core::ports::{Change, Running};
use backout_core::saga::Ending;

use super::claim::{Claimed, claim_from_holder, give_back, ours_alone};
use super::recover::{finish_unwatched_bake, recover_open, settle_unwatched_bake};
use super::take_back::plan_context;
use super::{EngineError, Refused, refused_by};
use crate::config_snapshot::{self, Keep};
use crate::context::Context;
use crate::dependencies::Alone;
use crate::events::Event;
use crate::executor::{Executor, Outcome, commit_both, is_baking};
use crate::journal::{self, Journal};
use crate::partial::{self, Changed};
use crate::readiness::{check, history, rejected_releases, secrets_check, way_back_checks};
use crate::safety::lift;
use crate::situation;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct DeployWish {
    /// The label.
    pub version: Version,
    /// Why.
    pub reason: Option<String>,
    /// Config files: as on disk (asked when a rollback has put older ones there), `keep` (as on disk, knowingly),
    /// or those of deployment N.
    pub config: Option<ConfigChoice>,
    /// Lifted checks.
    pub overrides: Vec<String>,
    /// The services to ship; none: all of them. The others stay what they are.
    pub services: Vec<ServiceName>,
}

/// `--config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigChoice {
    /// As on disk.
    Keep,
    /// Those of a deployment.
    Of(u64),
}

/// A deploy as it would run.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The release.
    pub release: Arc<Release>,
    /// The plan.
    pub plan: Plan,
    /// What was proven.
    pub checks: Vec<ReadinessCheck>,
    /// What a person should know first.
    pub warnings: Vec<String>,
}

impl Prepared {
    pub(crate) fn refuse_on_error(&self) -> Result<(), EngineError> {
        let hint = |check: &ReadinessCheck| {
            let lift = format!("lift it knowingly with --override {}", check.name);
            Some(format!(
                "mend it and deploy again (`backout doctor` shows every check), or {lift}"
            ))
        };
        refused_by("deploy", &self.checks, hint).map_or(Ok(()), |refused| Err(refused.into()))
    }
}

/// Plans a deploy without changing anything.
///
/// # Errors
/// [`EngineError::Refused`] when it can't be planned at all; failing checks stand in the result.
pub async fn prepare_deploy(cx: &Context, wish: &DeployWish) -> Result<Prepared, EngineError> {
    ours_alone(cx).await?;
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    prepare(cx, &Source::Disk(wish), &environment, Keep::No).await
}

/// What is shipped: what is on disk now, or what was on the disk of whoever ordered it.
pub(crate) enum Source<'a> {
    /// On disk.
    Disk(&'a DeployWish),
    /// Ordered; the request holds an order.
    Order(&'a Request, &'a DeployOrder),
}

impl Source<'_> {
    fn overrides(&self) -> Vec<String> {
        match self {
            Source::Disk(wish) => wish.overrides.clone(),
            Source::Order(_, order) => order.overrides.clone(),
        }
    }

    fn reason(&self) -> Option<String> {
        match self {
            Source::Disk(wish) => wish.reason.clone(),
            Source::Order(request, _) => request.reason.clone(),
        }
    }
}

/// What a wish comes to now: the release, and whether its config files have to be put on disk first.
pub(crate) async fn resolve_wish(
    cx: &Context,
    wish: &DeployWish,
    environment: &EnvironmentRecord,
    keep: Keep,
) -> Result<(Release, bool), EngineError> {
    let (config, restore) = chosen_config(cx, wish, &history(cx).await?).await?;
    if wish.services.is_empty() {
        let release = crate::release::build(cx, &wish.version, config, None, keep).await?;
        return Ok((release, restore));
    }
    let live = situation::live(cx, environment).await?.ok_or_else(|| {
        Refused::new(
            "nothing is live, so there is nothing that the other services could stay",
            "deploy the whole app, without --service; what was stopped is started again by `backout recover`",
        )
    })?;
    let live = situation::release(cx, &live.release).await?;
    let named = partial::known(&wish.services, cx.services.keys(), "backout.yaml")?;
    let made = crate::release::build(cx, &wish.version, config, Some(&named), keep).await?;
    let config = made.content.config.clone();
    Ok((partial::mixed(cx, &Changed::New(&made), &live, &named, config)?, restore))
}

/// A release that was mixed for what was live then must not undo what became live since.
fn refuse_other_base(release: &Release, live: Option<&Release>) -> Result<(), EngineError> {
    let mixed = &release.content;
    let same = |live: &Release| {
        let kept = mixed.origins.iter().all(|(name, origin)| {
            live.content.services.contains_key(name) && origin.release == *live.runs_as(name)
        });
        kept && live.content.services.keys().all(|name| mixed.services.contains_key(name))
    };
    if mixed.origins.is_empty() || live.is_some_and(same) {
        return Ok(());
    }
    let message = "what is live has changed since this was asked for";
    Err(Refused::new(message, "deploy again: `backout status` shows what is live").into())
}

async fn prepare(
    cx: &Context,
    source: &Source<'_>,
    environment: &EnvironmentRecord,
    keep: Keep,
) -> Result<Prepared, EngineError> {
    let history = history(cx).await?;
    let (release, restore) = match source {
        Source::Disk(wish) => resolve_wish(cx, wish, environment, keep).await?,
        Source::Order(_, order) => (order.release.clone(), order.restore_config),
    };
    let release = Arc::new(release);
    let situation = situation::observe_situation(cx, environment).await?;
    let (reason, overrides) = (source.reason(), source.overrides());
    let mut pcx = plan_context(cx, environment.next_number, reason, false, overrides.clone());
    if let Source::Order(request, order) = source {
        pcx.operation = request.operation.clone();
        pcx.surface = order.surface;
        pcx.requested_by = asked_by(request);
    }
    let seen = match release.content.origins.is_empty() {
        true => Seen::default(),
        false => partial::seen(cx, &pcx, environment, &situation, &release, None).await?,
    };
    let (mut checks, mut warnings) = prove(cx, environment, &situation, &release, &history).await?;
    checks.extend(obstacles(cx, &situation, &release, &seen).await);
    lift(&mut checks, &overrides);
    let mut plan = plan_deploy(&pcx, &situation, &release, restore, &seen)?;
    let wrong = lint(&plan);
    if !wrong.is_empty() {
        return Err(EngineError::Failed(format!(
            "the plan is unsound, nothing was changed: {}",
            wrong.join("; ")
        )));
    }
    if environment.folder.as_ref().is_some_and(|folder| *folder != cx.folder) {
        let before = environment.folder.clone().unwrap_or_default();
        warnings.insert(
            0,
            format!("the last operation here ran from {before}, this one runs from {}", cx.folder),
        );
    }
    plan.warnings.clone_from(&warnings);
    Ok(Prepared { release, plan, checks, warnings })
}

/// That it can start, and that there is a way back; with what a person should know first.
async fn prove(
    cx: &Context,
    environment: &EnvironmentRecord,
    situation: &Situation,
    release: &Release,
    history: &[Deployment],
) -> Result<(Vec<ReadinessCheck>, Vec<String>), EngineError> {
    let mut checks = vec![secrets_check(cx, release)];
    let mut warnings = Vec::new();
    let old = match &situation.live {
        Some(live) => Some(situation::release(cx, &live.release).await?),
        None => None,
    };
    refuse_other_base(release, old.as_deref())?;
    if let (Some(live), Some(old)) = (&situation.live, &old) {
        if !release.content.origins.is_empty() {
            let alone = Alone { environment, history, live: old, wanted: release };
            checks.push(alone.deployed(cx, &release.content.own_services()).await?);
            warnings.extend(other_config(old, release));
        }
        checks.extend(way_back_checks(cx, environment, old).await?);
        if live.release == release.id {
            warnings.push(format!(
                "{} with this very content is live already as #{}",
                release.content.version, live.number
            ));
        }
    } else {
        let words =
            "nothing is live: the way back of this first deployment is to stop and remove it";
        checks.push(check("way_back", Severity::Warning, words));
    }
    if rejected_releases(history).contains(&release.id) {
        warnings.push(format!(
            "{} was rolled back before and is unchanged since",
            release.content.version
        ));
    }
    Ok((checks, warnings))
}

/// Files that belong to the whole app and differ now, where only some of its services are shipped.
fn other_config(live: &Release, release: &Release) -> Option<String> {
    let paths = partial::differing_config(&live.content.config, &release.content.config);
    let own: Vec<String> = release.content.own_services().iter().map(ToString::to_string).collect();
    (!paths.is_empty()).then(|| {
        format!(
            "config files belong to the whole app: {} differ from those of {}; {} starts with them, the other \
             services go on with what they read when they started",
            paths.join(", "),
            live.content.version,
            own.join(", ")
        )
    })
}

/// Other programs in the way, such as one on the fixed port that Backout did not start.
async fn obstacles(
    cx: &Context,
    situation: &Situation,
    release: &Release,
    seen: &Seen,
) -> Vec<ReadinessCheck> {
    let mut found = Vec::new();
    let replaced = |name: &&ServiceName| !seen.as_wanted.contains(*name);
    for service in release.content.services.keys().filter(replaced) {
        for slot in Slot::BOTH {
            let ours = situation.slots.get(&slot).is_some_and(|side| side.running != Running::No);
            // What replaces in place can be hindered by what became of its own place.
            let in_place = cx.target.capabilities().replaces_in_place;
            if ours && !in_place || in_place && slot != Slot::A {
                continue;
            }
            for unit in situation::units(cx, service, slot) {
                match cx.target.obstacles(&unit, release).await {
                    Ok(lines) => found.extend(lines),
                    Err(error) => {
                        cx.events.note(format!("obstacles of {unit} can't be told: {error}"));
                    }
                }
            }
        }
    }
    if let Some(router) = &cx.router {
        match router.obstacles().await {
            Ok(lines) => found.extend(lines),
            Err(error) => cx.events.note(format!("obstacles of the router can't be told: {error}")),
        }
    }
    found.sort();
    found.dedup();
    if found.is_empty() {
        return vec![check("nothing_in_the_way", Severity::Pass, "no other program is in the way")];
    }
    vec![check("nothing_in_the_way", Severity::Error, found.join("; "))]
}

/// The config files to ship, and whether they have to be put on disk first.
async fn chosen_config(
    cx: &Context,
    wish: &DeployWish,
    history: &[Deployment],
) -> Result<(Option<Vec<ConfigFile>>, bool), EngineError> {
    match wish.config {
        Some(ConfigChoice::Keep) => Ok((None, false)),
        Some(ConfigChoice::Of(number)) => {
            let row = history.iter().find(|row| row.number == number).ok_or_else(|| {
                Refused::new(
                    format!("there is no deployment #{number}"),
                    "`backout history` lists them",
                )
            })?;
            let release = situation::release(cx, &row.release).await?;
            Ok((Some(release.content.config.clone()), true))
        }
        None => {
            refuse_restored_config(cx, history).await?;
            Ok((None, false))
        }
    }
}

/// A rollback put older config files back; shipping them again unnoticed would undo what was meant to be deployed.
async fn refuse_restored_config(cx: &Context, history: &[Deployment]) -> Result<(), EngineError> {
    let Some(newest) = history.iter().find(|row| row.status != DeploymentStatus::Failed) else {
        return Ok(());
    };
    if newest.kind != DeploymentKind::Rollback {
        return Ok(());
    }
    let replaced = history.iter().find(|row| Some(row.number) == newest.from_number);
    let Some(replaced) = replaced else { return Ok(()) };
    let restored = situation::release(cx, &newest.release).await?;
    let left = situation::release(cx, &replaced.release).await?;
    if restored.content.config == left.content.config {
        return Ok(());
    }
    let still_there = config_snapshot::drift(cx, &restored.content.config).await?.is_empty();
    if !still_there {
        return Ok(());
    }
    let changed: Vec<&str> = restored
        .content
        .config
        .iter()
        .filter(|file| !left.content.config.contains(file))
        .map(|file| file.path.as_str())
        .collect();
    Err(EngineError::Refused(Box::new(Refused {
        message: format!(
            "the config files on disk are those that the rollback #{} put back ({}), not those deployed with #{}",
            newest.number,
            changed.join(", "),
            replaced.number
        ),
        hints: vec![
            "--config keep ships them as they are on disk".to_owned(),
            format!("--config {} ships the files of #{}", replaced.number, replaced.number),
        ],
        checks: Vec::new(),
    })))
}

/// Runs a deploy to its end: stable, taken back, or stuck.
///
/// # Errors
/// When it was refused or could not begin; nothing was changed then.
pub async fn deploy(cx: &Context, wish: &DeployWish) -> Result<Outcome, EngineError> {
    // Cheap refusals come before anyone else's bake is superseded for nothing.
    prepare_deploy(cx, wish).await?.refuse_on_error()?;
    deploy_from(cx, &Source::Disk(wish)).await
}

/// Claims, supersedes a bake, and runs the deploy to its end.
pub(crate) async fn deploy_from(cx: &Context, source: &Source<'_>) -> Result<Outcome, EngineError> {
    refuse_running_stages(cx).await?;
    let claimed = claim_from_holder(cx, RequestKind::Supersede).await?;
    let result = Box::pin(run(cx, source, &claimed)).await;
    give_back(cx, claimed.keeper).await;
    result
}

/// `user@host` of who asked.
fn asked_by(request: &Request) -> String {
    let label = request.requested_by.as_str();
    label.rsplit_once(':').map_or(label, |(who, _)| who).to_owned()
}

/// Only a baking deploy is superseded; one in its stages is busy.
pub(crate) async fn refuse_running_stages(cx: &Context) -> Result<(), EngineError> {
    let Some(open) = cx.ledger.open_operation(&cx.key).await? else { return Ok(()) };
    let journal = Journal::load(cx.ledger.as_ref(), open).await?;
    match cx.ledger.lease(&cx.key).await? {
        Some(view) if view.alive && !is_baking(&journal) => Err(EngineError::Busy(Box::new(view))),
        _ => Ok(()),
    }
}

/// An order that was taken by another controller, or withdrawn, is not begun again.
async fn refuse_answered(cx: &Context, request: &Request) -> Result<(), EngineError> {
    match cx.ledger.request(&request.id).await? {
        Some(Request { answer: None, .. }) => Ok(()),
        _ => Err(Refused::new("it was answered meanwhile", "`backout status` shows it").into()),
    }
}

async fn run(cx: &Context, source: &Source<'_>, claimed: &Claimed) -> Result<Outcome, EngineError> {
    if let Source::Order(request, _) = source {
        refuse_answered(cx, request).await?;
    }
    let mut baking = None;
    if claimed.open.is_none() {
        settle_unwatched_bake(cx, &claimed.keeper).await?;
    }
    if let Some(plan) = claimed.open.clone() {
        let journal = Journal::load(cx.ledger.as_ref(), plan).await?;
        if is_baking(&journal) {
            baking = finish_unwatched_bake(cx, &claimed.keeper, journal).await?;
        } else {
            cx.events.warn(format!("an interrupted {} is recovered first", journal.plan.kind));
            let outcome = recover_open(cx, &claimed.keeper, journal).await?;
            if !matches!(outcome.last(), Outcome::Ended { .. }) {
                return Ok(outcome);
            }
        }
    }
    let environment = match &baking {
        Some(journal) => journal.rows.environment.clone(),
        None => journal::environment(cx.ledger.as_ref(), &cx.key).await?,
    };
    let prepared = prepare(cx, source, &environment, Keep::Yes).await?;
    prepared.refuse_on_error()?;
    for warning in &prepared.warnings {
        cx.events.warn(warning.clone());
    }
    let epoch = claimed.keeper.lease.epoch;
    let operation = prepared.plan.operation.clone();
    let mut opened = Journal::open(cx, prepared.plan, &environment, None, epoch)?;
    opened.add(Change::Release(Box::new(Release::clone(&prepared.release))));
    if let Source::Order(request, _) = source {
        let words = format!("begun by {}", cx.holder.label);
        opened.answer(request.id.clone(), true, &words, cx.now());
    }
    match baking {
        Some(mut old) => {
            let ending = Ending::Superseded { by: operation };
            old.end(cx.now(), epoch, &ending, &std::collections::BTreeMap::new())?;
            opened.rows.environment.folder = Some(cx.folder.clone());
            Ok(commit_both(cx, &claimed.keeper, &mut old, opened).await?)
        }
        None => {
            opened.flush(cx.ledger.as_ref(), &claimed.keeper.lease).await?;
            crate::faults::boundary("after_open", "open");
            cx.events.send(Event::Opened { plan: Box::new(opened.plan.clone()), resumed: false });
            Ok(Box::pin(Executor::new(cx, &claimed.keeper, opened).run()).await)
        }
    }
}
