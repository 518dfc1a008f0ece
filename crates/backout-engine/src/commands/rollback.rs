//! `rollback`: to last known good, or to what a person names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backout_core::ids::{HostName, ReleaseId, ServiceName, Version};
use backout_core::model::{
    Deployment, DeploymentStatus, EnvironmentRecord, OperationKind, ReadinessCheck, Release,
    RequestKind, RollbackType, Severity, Trigger,
};
use backout_core::plan::{Action, Live, Plan, RollbackWish, Seen, Situation, lint, plan_rollback};
use backout_core::ports::{Change, Running};
use backout_core::saga::Ending;
use jiff::Timestamp;

use super::claim::{Claimed, claim_from_holder_after, give_back, ours_alone};
use super::earlier::{self, Before};
use super::look::Look;
use super::rollback_part::{Aim, aim};
use super::take_back::{made_by, plan_context, way_back_of};
use super::{EngineError, Refused, refused_by};
use crate::context::Context;
use crate::events::Event;
use crate::executor::{Executor, Outcome, commit_both};
use crate::gate;
use crate::journal::Journal;
use crate::keeper::Keeper;
use crate::live_at::live_at;
use crate::partial;
use crate::readiness::{history, last_known_good, rejected_releases};
use crate::safety::{Subject, checks};
use crate::situation;

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackTarget {
    /// Last known good.
    LastKnownGood,
    /// The newest deployment of a version.
    Version(Version),
    /// A deployment.
    Revision(u64),
    /// What was live then.
    At(Timestamp),
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct RollbackWishes {
    /// Where to.
    pub target: RollbackTarget,
    /// Why.
    pub reason: Option<String>,
    /// Although what is live looks healthy.
    pub forced: bool,
    /// Advisory checks are skipped.
    pub skip_validation: bool,
    /// Lifted checks.
    pub overrides: Vec<String>,
    /// The services that go back; none: all of them, and the config files.
    pub services: Vec<ServiceName>,
}

/// A rollback as it would run.
#[derive(Debug, Clone)]
pub struct PreparedRollback {
    /// The deployment that is gone back to.
    pub target: Deployment,
    /// The same for people: its number and version, or how it was found if no deployment ever had it.
    pub destination: String,
    /// The plan.
    pub plan: Plan,
    /// The safety checks.
    pub checks: Vec<ReadinessCheck>,
    /// What a person should know first.
    pub warnings: Vec<String>,
    /// A release that was made for it.
    made: Option<Arc<Release>>,
}

impl PreparedRollback {
    fn refuse_on_error(&self) -> Result<(), EngineError> {
        let hint = |check: &ReadinessCheck| {
            let lift = format!("lift one failing check with --override {}", check.name);
            (check.name != "already_healthy").then_some(lift)
        };
        refused_by("rollback", &self.checks, hint).map_or(Ok(()), |refused| Err(refused.into()))
    }

    /// Only the question whether it looks healthy stands against it: a person's confirmation answers that.
    #[must_use]
    pub fn needs_only_force(&self) -> bool {
        let mut wrong = self.checks.iter().filter(|c| c.status == Severity::Error).peekable();
        wrong.peek().is_some() && wrong.all(|c| c.name == "already_healthy")
    }
}

/// Plans a rollback without changing anything.
///
/// # Errors
/// [`EngineError::Refused`] when there is nothing to go back to.
pub async fn prepare_rollback(
    cx: &Context,
    wishes: &RollbackWishes,
) -> Result<PreparedRollback, EngineError> {
    let look = Look::take(cx).await?;
    prepare_after(cx, wishes, &look).await
}

async fn prepare_after(
    cx: &Context,
    wishes: &RollbackWishes,
    look: &Look,
) -> Result<PreparedRollback, EngineError> {
    let (alone, prepared) =
        tokio::join!(ours_alone(cx), prepare(cx, wishes, &look.environment, look.open.as_ref()));
    alone.and(prepared)
}

async fn prepare(
    cx: &Context,
    wishes: &RollbackWishes,
    environment: &EnvironmentRecord,
    open: Option<&Plan>,
) -> Result<PreparedRollback, EngineError> {
    // These change nothing of what is live: it is gone back from as if they were not there.
    let aside = |plan: &&Plan| matches!(plan.kind, OperationKind::Drill | OperationKind::Eject);
    let open = open.filter(|plan| !aside(plan));
    let history = history(cx).await?;
    let beside = left_failing(environment, &history).filter(|_| open.is_none());
    let goal = goal(cx, wishes, environment, (open, beside.as_ref()), &history).await?;
    let (target, release) = (goal.target.clone(), Arc::clone(&goal.release));
    let aim = goal.aim.as_ref();
    let left = match beside {
        Some(beside) => Some(beside),
        None => left_by(cx, environment, open).await?,
    };
    refuse_what_is_live(&release, &target, left.as_ref(), environment, open)?;
    let subject = Subject {
        environment,
        history: &history,
        target: &target,
        release: &release,
        partial: aim.map(|aim| (aim.named.as_slice(), aim.live.as_ref())),
        during_operation: open.is_some(),
        left: left.as_ref(),
        forced: wishes.forced,
        skip_validation: wishes.skip_validation,
        overrides: &wishes.overrides,
    };
    let (mut checks, situation) =
        tokio::try_join!(checks(cx, &subject), situation::observe_situation(cx, environment))?;
    goal.before.iter().for_each(|before| before.correct(&mut checks));
    let pcx = plan_context(
        cx,
        environment.next_number,
        wishes.reason.clone(),
        wishes.forced,
        wishes.overrides.clone(),
    );
    let known_bad =
        left.as_ref().is_some_and(|left| rejected_releases(&history).contains(&left.release));
    let deploy = open.filter(|plan| plan.can_be_taken_back());
    let seen = match (open, deploy) {
        // What another way back has begun may be half-done anywhere.
        (Some(_), None) => Seen::default(),
        _ => partial::seen(cx, &pcx, environment, &situation, &release, deploy).await?,
    };
    let wish = RollbackWish {
        was_stable: was_stable(&history, &release.id),
        release,
        // A person who takes a *finished* deployment back says that it is bad; one that is in its stages
        // is bad only if a verdict says so.
        reject_left: known_bad || open.is_none(),
        left,
        rollback_type: goal.rollback_type,
        untouched: BTreeSet::new(),
        begun: BTreeMap::new(),
        trigger: Trigger::Manual,
        evidence: Vec::new(),
        services: aim.map(|aim| aim.named.clone()).unwrap_or_default(),
        seen,
    };
    let mut plan = plan_rollback(&pcx, &situation, &wish)?;
    let wrong = lint(&plan);
    if !wrong.is_empty() {
        return Err(EngineError::Failed(format!(
            "the plan is unsound, nothing was changed: {}",
            wrong.join("; ")
        )));
    }
    let warnings = warnings(cx, environment, aim, &checks);
    plan.warnings.clone_from(&warnings);
    let (destination, made) = (goal.destination(), goal.made());
    Ok(PreparedRollback { target, destination, plan, checks, warnings, made })
}

/// What a person should know first.
fn warnings(
    cx: &Context,
    environment: &EnvironmentRecord,
    aim: Option<&Aim>,
    checks: &[ReadinessCheck],
) -> Vec<String> {
    let mut warnings = Vec::new();
    if environment.folder.as_ref().is_some_and(|folder| *folder != cx.folder) {
        let before = environment.folder.clone().unwrap_or_default();
        warnings.push(format!(
            "the last operation here ran from {before}, this one runs from {}",
            cx.folder
        ));
    }
    warnings.extend(aim.and_then(|aim| aim.warning.clone()));
    let words = checks.iter().filter(|c| c.status == Severity::Warning);
    warnings.extend(words.map(|c| format!("{}: {}", c.name, c.message)));
    warnings
}

/// What a rollback makes live.
struct Goal {
    /// The deployment that is gone back to.
    target: Deployment,
    rollback_type: RollbackType,
    release: Arc<Release>,
    /// Only some services go back.
    aim: Option<Aim>,
    /// No deployment ever had it.
    before: Option<Before>,
}

impl Goal {
    /// The release, if it was made for this.
    fn made(&self) -> Option<Arc<Release>> {
        (self.aim.is_some() || self.before.is_some()).then(|| Arc::clone(&self.release))
    }

    fn destination(&self) -> String {
        match &self.before {
            Some(before) => format!("{} ({})", self.target.version, before.found),
            None => format!("#{} {}", self.target.number, self.target.version),
        }
    }
}

/// Finds what is gone back to. `open` is the open operation, `beside` what was left failing beside what is live.
async fn goal(
    cx: &Context,
    wishes: &RollbackWishes,
    environment: &EnvironmentRecord,
    (open, beside): (Option<&Plan>, Option<&Live>),
    history: &[Deployment],
) -> Result<Goal, EngineError> {
    let find =
        async || find_target(cx, wishes, (open, beside.and(environment.live)), history).await;
    if !wishes.services.is_empty() {
        let aim = aim(cx, wishes, environment, open, history, find).await?;
        let (target, release) = (aim.target.clone(), Arc::clone(&aim.release));
        let rollback_type = aim.rollback_type;
        return Ok(Goal { target, rollback_type, release, aim: Some(aim), before: None });
    }
    let refused = match find().await {
        Ok((target, rollback_type)) => {
            let release = situation::release(cx, &target.release).await?;
            return Ok(Goal { target, rollback_type, release, aim: None, before: None });
        }
        Err(error @ EngineError::Refused(_)) if open.is_none() => error,
        Err(error) => return Err(error),
    };
    let before = earlier::before(cx, wishes, environment, history).await?.ok_or(refused)?;
    let (target, release) = (before.target.clone(), Arc::clone(&before.release));
    let rollback_type = RollbackType::Previous;
    Ok(Goal { target, rollback_type, release, aim: None, before: Some(before) })
}

fn was_stable(history: &[Deployment], release: &ReleaseId) -> bool {
    let is_stable =
        |row: &Deployment| row.status == DeploymentStatus::Stable || row.stable_at.is_some();
    history.iter().any(|row| row.release == *release && is_stable(row))
}

/// The deployment that is left: the one an open operation makes, else what is live.
async fn left_by(
    cx: &Context,
    environment: &EnvironmentRecord,
    open: Option<&Plan>,
) -> Result<Option<Live>, EngineError> {
    match open {
        Some(plan) if plan.can_be_taken_back() => Ok(made_by(plan)),
        Some(plan) => Ok(plan.left.clone().or(situation::live(cx, environment).await?)),
        None => Ok(situation::live(cx, environment).await?),
    }
}

/// A failed deployment that was left beside the live one, with some of the traffic: a deploy that failed in its
/// stages where automatic rollback is off, or whose operation was resolved by hand.
fn left_failing(environment: &EnvironmentRecord, history: &[Deployment]) -> Option<Live> {
    let live = environment.live?;
    environment.slots.iter().find_map(|(slot, record)| {
        let row = history.iter().find(|row| row.number == record.deployment)?;
        (row.number > live && row.status == DeploymentStatus::Failed).then(|| Live {
            number: row.number,
            release: row.release.clone(),
            version: row.version.clone(),
            slot: *slot,
        })
    })
}

/// Back to what is live already would reject it and make it live again.
fn refuse_what_is_live(
    release: &Release,
    target: &Deployment,
    left: Option<&Live>,
    environment: &EnvironmentRecord,
    open: Option<&Plan>,
) -> Result<(), EngineError> {
    let same = left
        .is_some_and(|left| left.release == release.id && Some(left.number) == environment.live);
    // A deploy that is under way, or was left failing, can't be gone back to either.
    let itself = left.is_some_and(|left| left.number == target.number);
    if !itself && (open.is_some() || !same) {
        return Ok(());
    }
    let is = if same { "is what is live now" } else { "is what a rollback leaves now" };
    Err(Refused::new(
        format!("#{} {} {is}", target.number, target.version),
        "name an older one (`backout history` lists them); `backout recover` starts again what does not run",
    )
    .into())
}

/// `open` is the open operation; without one, the second is what is live beside a deployment that was left failing.
pub(super) async fn find_target(
    cx: &Context,
    wishes: &RollbackWishes,
    (open, beside): (Option<&Plan>, Option<u64>),
    history: &[Deployment],
) -> Result<(Deployment, RollbackType), EngineError> {
    let found = match &wishes.target {
        RollbackTarget::LastKnownGood => {
            let live = history.iter().find(|row| Some(row.number) == beside);
            let row = match live {
                Some(live) => live.clone(),
                None => bare_target(cx, open, history).await?,
            };
            return Ok((row, RollbackType::Previous));
        }
        RollbackTarget::Version(version) => history
            .iter()
            .find(|row| of_version(row, version) && row.services.is_empty())
            .or_else(|| history.iter().find(|row| of_version(row, version))),
        RollbackTarget::Revision(number) => history.iter().find(|row| row.number == *number),
        RollbackTarget::At(at) => live_at(cx, history, *at).await?,
    };
    match found {
        Some(row) => Ok((row.clone(), RollbackType::Specific)),
        None => Err(unknown_target(&wishes.target, history)),
    }
}

fn of_version(row: &Deployment, version: &Version) -> bool {
    row.version == *version && row.status != DeploymentStatus::InProgress
}

fn unknown_target(target: &RollbackTarget, history: &[Deployment]) -> EngineError {
    let what = match target {
        RollbackTarget::LastKnownGood => "last known good".to_owned(),
        RollbackTarget::Version(version) => format!("version {version}"),
        RollbackTarget::Revision(number) => format!("deployment #{number}"),
        RollbackTarget::At(at) => format!("deployment that was live at {at}"),
    };
    let mut listed: Vec<String> = Vec::new();
    for row in history.iter().filter(|row| row.stable_at.is_some()).take(10) {
        listed.push(format!(
            "#{} {}{}",
            row.number,
            row.version,
            if row.rejected { " (rejected)" } else { "" }
        ));
    }
    let there = if listed.is_empty() {
        "nothing was ever stable here".to_owned()
    } else {
        listed.join(", ")
    };
    Refused::new(
        format!("there is no {what} in {there_is}", there_is = "this environment"),
        format!("what exists: {there}"),
    )
    .into()
}

/// Bare: what was live when an open deploy (or the deploy behind an open automatic rollback) began; else last known good.
async fn bare_target(
    cx: &Context,
    open: Option<&Plan>,
    history: &[Deployment],
) -> Result<Deployment, EngineError> {
    let row = |number: u64| history.iter().find(|row| row.number == number).cloned();
    if let Some(plan) = open {
        if plan.can_be_taken_back() {
            if let Some((live, _)) = way_back_of(cx, plan).await?
                && let Some(row) = row(live.number)
            {
                return Ok(row);
            }
        } else if let Some(release) = &plan.release {
            let same = history
                .iter()
                .find(|row| row.release == *release && Some(row.number) != plan.deployment);
            if let Some(row) = same {
                return Ok(row.clone());
            }
        }
    }
    let besides: Vec<ReleaseId> = open.and_then(|plan| plan.release.clone()).into_iter().collect();
    let besides = if open.is_some_and(Plan::can_be_taken_back) { besides } else { Vec::new() };
    match last_known_good(cx, &besides).await? {
        Some(row) => Ok(row),
        None => Err(nothing_to_go_back_to(history)),
    }
}

fn nothing_to_go_back_to(history: &[Deployment]) -> EngineError {
    let rejected = rejected_releases(history);
    let mut refused = Refused::new(
        "there is nothing to go back to: no other good release was ever stable here",
        "deploy a good version, or stop what runs with `backout down`",
    );
    let once_stable =
        |row: &&Deployment| row.stable_at.is_some() && rejected.contains(&row.release);
    if let Some(row) = history.iter().find(once_stable) {
        refused.hints.push(format!(
            "#{} {} was stable once and rolled back from since: `--to-revision {} --override target_status` goes there all the same",
            row.number, row.version, row.number
        ));
    }
    refused.into()
}

/// Runs a rollback to its end.
///
/// # Errors
/// When it was refused or could not begin; nothing was changed then.
pub async fn rollback(cx: &Context, wishes: &RollbackWishes) -> Result<Outcome, EngineError> {
    // Refusals come before a running deploy is interrupted for nothing.
    let look = Look::take(cx).await?;
    let prepared = prepare_after(cx, wishes, &look).await?;
    prepared.refuse_on_error()?;
    // What the probe reads of the ledger comes before the claim, which keeps others waiting for a disk.
    let ((), claimed) = tokio::join!(
        gate::look_ahead(cx, &prepared.plan, &look.environment),
        claim_from_holder_after(cx, RequestKind::TakeOver, Some(&look)),
    );
    let claimed = claimed?;
    let result = Box::pin(run(cx, wishes, &claimed, (look, prepared))).await;
    give_back(cx, claimed.keeper).await;
    result
}

async fn run(
    cx: &Context,
    wishes: &RollbackWishes,
    claimed: &Claimed,
    (look, mut prepared): (Look, PreparedRollback),
) -> Result<Outcome, EngineError> {
    let (old, environment) = claimed.taken_over(cx).await?;
    if !look.still_holds(claimed, old.as_ref(), &environment) {
        gate::forget(cx, &prepared.plan);
        let open = old.as_ref().map(|journal| &journal.plan);
        prepared = prepare(cx, wishes, &environment, open).await?;
        prepared.refuse_on_error()?;
    }
    for warning in &prepared.warnings {
        cx.events.warn(warning.clone());
    }
    if old.is_none() {
        keep_parts(cx, prepared.made.as_deref()).await?;
    }
    begin(cx, &claimed.keeper, old, &environment, (prepared.plan, prepared.made)).await
}

/// What a release that is made now consists of must not go away while it is gone back to. Should this end here, the
/// next clean-up takes away again what no release needs.
async fn keep_parts(cx: &Context, made: Option<&Release>) -> Result<(), EngineError> {
    let artifacts = made.iter().flat_map(|release| &release.content.artifacts);
    for artifact in artifacts.filter(|artifact| artifact.kept) {
        cx.artifacts.pin(&artifact.path, &artifact.digest).await?;
    }
    Ok(())
}

/// Opens a plan, closing what it takes over in the same commit, and runs it.
pub(crate) async fn begin(
    cx: &Context,
    keeper: &Keeper,
    old: Option<Journal>,
    environment: &EnvironmentRecord,
    (plan, made): (Plan, Option<Arc<Release>>),
) -> Result<Outcome, EngineError> {
    let made = made.map(|release| Change::Release(Box::new(Release::clone(&release))));
    let epoch = keeper.lease.epoch;
    let operation = plan.operation.clone();
    let Some(mut old) = old else {
        let left = match &plan.left {
            Some(live) => cx.ledger.deployment(&cx.key, live.number).await?,
            None => None,
        };
        let mut opened = Journal::open(cx, plan, environment, left, epoch)?;
        made.into_iter().for_each(|change| opened.add(change));
        opened.flush(cx.ledger.as_ref(), &keeper.lease).await?;
        crate::faults::boundary("after_open", "open");
        cx.events.send(Event::Opened { plan: Box::new(opened.plan.clone()), resumed: false });
        return Ok(Box::pin(Executor::new(cx, keeper, opened).run()).await);
    };
    let failure = old.state.failing.clone();
    old.end(
        cx.now(),
        epoch,
        &Ending::TakenBack { by: operation, failure },
        &std::collections::BTreeMap::new(),
    )?;
    let left = match &plan.left {
        Some(live) if Some(live.number) == old.plan.deployment => old.rows.deployment.clone(),
        Some(live) => cx.ledger.deployment(&cx.key, live.number).await?,
        None => None,
    };
    let opened = Journal::open(cx, plan, &old.rows.environment, left, epoch)?;
    Ok(commit_both(cx, keeper, &mut old, opened).await?)
}

/// Hosts on which all of a release runs.
async fn well(cx: &Context, live: &Live, release: &Release) -> BTreeSet<HostName> {
    let mut well: BTreeSet<HostName> = cx.policy.hosts.names.iter().cloned().collect();
    for service in release.content.services.keys() {
        let units = situation::units(cx, service, live.slot);
        for (unit, seen) in situation::observe_each(cx, units, Some(release)).await {
            if seen.running != Running::Yes {
                well.remove(&unit.host);
            }
        }
    }
    well
}

/// After a reboot: the live release is started again, as a rollback to itself that rejects nothing.
pub(crate) async fn restart_live(
    cx: &Context,
    keeper: &Keeper,
    environment: &EnvironmentRecord,
    situation: &Situation,
    live: &Live,
    release: Arc<Release>,
) -> Result<Vec<String>, EngineError> {
    let was_away = situation.weights.is_none();
    let reason = Some("started again by recover: it should run and did not".to_owned());
    let pcx = plan_context(cx, environment.next_number, reason, true, Vec::new());
    let history = history(cx).await?;
    let untouched = well(cx, live, &release).await;
    let seen = partial::up_and_down(cx, &pcx, situation, &release).await;
    let wish = RollbackWish {
        release,
        was_stable: history
            .iter()
            .any(|row| row.release == live.release && row.stable_at.is_some()),
        left: None,
        reject_left: false,
        rollback_type: RollbackType::Specific,
        untouched,
        begun: BTreeMap::new(),
        trigger: Trigger::Manual,
        evidence: Vec::new(),
        services: Vec::new(),
        seen,
    };
    let plan = plan_rollback(&pcx, situation, &wish)?;
    let outcome = begin(cx, keeper, None, environment, (plan, None)).await?;
    match outcome.last() {
        Outcome::Ended { operation, ending: Ending::Done { .. }, .. } => Ok(operation
            .plan
            .steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::Start { .. } => Some(step.subject.clone()),
                Action::EnsureRouter if was_away => Some("the router".to_owned()),
                _ => None,
            })
            .collect()),
        Outcome::Stuck { reason, .. } | Outcome::Lost { reason, .. } => {
            Err(EngineError::Failed(reason.clone()))
        }
        _ => Err(EngineError::Failed("the live release could not be started again".to_owned())),
    }
}
