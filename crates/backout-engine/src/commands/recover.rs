//! `recover`: an interrupted operation goes forward if the new side is known good, else back.

use backout_core::model::{
    Deployment, DeploymentStatus, EnvironmentRecord, OperationKind, Release, RequestKind, Severity,
    Trigger,
};
use backout_core::plan::{Action, Live, Situation, WatchMode};
use backout_core::ports::{Change, Commit, Running};
use backout_core::saga::{EntryKind, Failure};

use super::EngineError;
use super::claim::{claim, give_back};
use super::health::probe_live;
use crate::acted;
use crate::context::Context;
use crate::events::Event;
use crate::executor::{Executor, Finished, Outcome, is_baking};
use crate::gate;
use crate::journal::{self, Journal, JournalError};
use crate::keeper::Keeper;
use crate::readiness::{history, refresh, secrets_check};
use crate::situation;

/// What `recover` found.
#[derive(Debug, Clone)]
pub enum Recovered {
    /// Nothing was open; these services that should run were started again.
    NothingOpen {
        /// `web@local#a` and so on.
        started: Vec<String>,
    },
    /// The operation was run to an end.
    Ran(Box<Outcome>),
}

/// Finishes what was interrupted.
///
/// # Errors
/// [`EngineError::Busy`] while a living holder works on it.
pub async fn recover(cx: &Context) -> Result<Recovered, EngineError> {
    let claimed = claim(cx).await?;
    let result = match claimed.open.clone() {
        None => nothing_open(cx, &claimed.keeper)
            .await
            .map(|started| Recovered::NothingOpen { started }),
        Some(plan) => match Journal::load(cx.ledger.as_ref(), plan).await {
            Ok(journal) => recover_open(cx, &claimed.keeper, journal)
                .await
                .map(|outcome| Recovered::Ran(Box::new(outcome))),
            Err(error) => Err(error.into()),
        },
    };
    give_back(cx, claimed.keeper).await;
    result
}

/// Runs an open operation whose holder is gone.
pub(crate) async fn recover_open(
    cx: &Context,
    keeper: &Keeper,
    mut journal: Journal,
) -> Result<Outcome, EngineError> {
    let epoch = keeper.lease.epoch;
    let was_stuck = journal.state.stuck.is_some();
    let handed_over = journal.state.handed_over;
    journal.note(cx.now(), epoch, EntryKind::Claimed { holder: cx.holder.label.clone() })?;
    cx.events.send(Event::Opened { plan: Box::new(journal.plan.clone()), resumed: true });
    if was_stuck {
        let kind = RequestKind::Retry;
        let request = backout_core::ids::RequestId::from_entropy((cx.entropy)());
        journal.note(
            cx.now(),
            epoch,
            EntryKind::Requested { request, kind, by: cx.requested_by.clone() },
        )?;
    }
    // Counted before anything else is asked: what ends a holder each time must not go on for ever.
    crate::faults::boundary("before_resume", "resume");
    journal.flush(cx.ledger.as_ref(), &keeper.lease).await?;
    if let Some(reason) = give_up(cx, keeper, &mut journal)? {
        journal.flush(cx.ledger.as_ref(), &keeper.lease).await?;
        let Journal { plan, state, rows, .. } = journal;
        return Ok(Outcome::Stuck { operation: Box::new(Finished { plan, state, rows }), reason });
    }
    let undecided = journal.plan.kind == OperationKind::Deploy && journal.state.failing.is_none();
    let back = match acted::seen(cx).await.filter(|_| undecided) {
        None if undecided && !was_stuck && !handed_over => why_back(cx, &journal).await,
        acted => acted,
    };
    if let Some(failure) = back {
        cx.events.send(Event::Failing {
            trigger: failure.trigger,
            evidence: failure.evidence.clone(),
            at_us: cx.now().as_microsecond(),
        });
        journal.note(cx.now(), epoch, EntryKind::Failing { failure })?;
    }
    journal.flush(cx.ledger.as_ref(), &keeper.lease).await?;
    crate::faults::boundary("after_resume", "resume");
    Ok(Box::pin(Executor::new(cx, keeper, journal).run()).await)
}

/// Holders that took it up one after the other and were gone before any step, before that is said to be stuck. Tries
/// of a step are counted as they begin; these never came so far.
const IDLE_CLAIMS: usize = 15;

/// Why it is stuck, if nobody who takes it up lives long enough to do anything. A person who asks begins a new count.
fn give_up(
    cx: &Context,
    keeper: &Keeper,
    journal: &mut Journal,
) -> Result<Option<String>, JournalError> {
    let claims = journal.idle_claims();
    let last = journal.plan.steps.len().checked_sub(1);
    let Some(step) = journal.state.current().or(last).filter(|_| claims > IDLE_CLAIMS) else {
        return Ok(None);
    };
    let reason =
        format!("{claims} took it up one after the other, and each was gone before its next step");
    let stuck = EntryKind::Stuck { step, reason: reason.clone() };
    journal.note(cx.now(), keeper.lease.epoch, stuck)?;
    Ok(Some(reason))
}

/// `None`: the new side is known good. Whether the router acted is asked before.
async fn why_back(cx: &Context, journal: &Journal) -> Option<Failure> {
    let back = |evidence: String| {
        Some(Failure {
            trigger: Trigger::Timeout,
            evidence: vec![evidence],
            release_is_bad: false,
            by_router: false,
        })
    };
    let ready = journal.plan.steps.iter().position(|step| {
        matches!(step.action, Action::Watch { mode: WatchMode::Ready { .. }, .. })
    })?;
    if !journal.state.steps[ready].is_finished() {
        return back("the deploy was interrupted before the new side was proven ready".to_owned());
    }
    // After the pivot there is only forward.
    let baked = journal.plan.steps.iter().zip(&journal.state.steps).any(|(step, state)| {
        matches!(step.action, Action::Watch { mode: WatchMode::Bake { .. }, .. })
            && state.is_finished()
    });
    if baked {
        return None;
    }
    match gate::require_healthy(cx, journal, journal.plan.slot).await {
        Ok(()) => None,
        Err(error) => {
            back(format!("the deploy was interrupted and the new side is not known good: {error}"))
        }
    }
}

/// An unwatched bake: over and healthy it becomes stable (`None`); not over, it is handed back to be superseded.
pub(crate) async fn finish_unwatched_bake(
    cx: &Context,
    keeper: &Keeper,
    journal: Journal,
) -> Result<Option<Journal>, EngineError> {
    let step = journal.state.current().unwrap_or(0);
    let Action::Watch { mode: WatchMode::Bake { bake_ms, .. }, .. } =
        journal.plan.steps[step].action
    else {
        let outcome = recover_open(cx, keeper, journal).await?;
        return ended(outcome);
    };
    let since = journal.state.steps[step].started_at.unwrap_or(journal.plan.planned_at);
    let elapsed_ms = cx.now().as_millisecond() - since.as_millisecond();
    let over = u64::try_from(elapsed_ms).is_ok_and(|elapsed| elapsed >= bake_ms);
    if !over || !is_baking(&journal) || journal.state.failing.is_some() {
        let mut journal = journal;
        journal.note(
            cx.now(),
            keeper.lease.epoch,
            EntryKind::Claimed { holder: cx.holder.label.clone() },
        )?;
        return Ok(Some(journal));
    }
    let mut journal = journal;
    let message = "bake unwatched".to_owned();
    journal.note(cx.now(), keeper.lease.epoch, EntryKind::Warning { message })?;
    let outcome = recover_open(cx, keeper, journal).await?;
    ended(outcome)
}

/// A rollback to a release that was never stable ends while it bakes, with nobody watching. Once its time is
/// over and it passes its checks, it is stable.
pub(crate) async fn settle_unwatched_bake(
    cx: &Context,
    keeper: &Keeper,
) -> Result<(), EngineError> {
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let Some(number) = environment.live else { return Ok(()) };
    let Some(mut row) = cx.ledger.deployment(&cx.key, number).await? else { return Ok(()) };
    let since_ms = cx.now().as_millisecond() - row.started_at.as_millisecond();
    let over = u64::try_from(since_ms).is_ok_and(|ms| ms >= cx.policy.bake_ms);
    if row.status != DeploymentStatus::Baking || !over {
        return Ok(());
    }
    for pass in 0..cx.policy.judge.consecutive_passes.max(1) {
        if pass > 0 {
            tokio::time::sleep(cx.fresh_for(true) / 2).await;
        }
        if !probe_live(cx, &environment).await?.is_some_and(|report| report.healthy()) {
            return Ok(());
        }
    }
    row.status = DeploymentStatus::Stable;
    row.stable_at = Some(cx.now());
    row.warnings.push("bake unwatched".to_owned());
    cx.events.note(format!(
        "#{number} {} is stable: its bake time is over and it is healthy",
        row.version
    ));
    let commit = Commit {
        operation: row.operation.clone(),
        expected_sequence: cx.ledger.journal_length(&row.operation).await?,
        entries: Vec::new(),
        changes: vec![Change::Deployment(Box::new(row))],
    };
    let committed = cx.ledger.commit(&keeper.lease, &[commit]).await;
    committed.map_err(|error| EngineError::Journal(error.into()))
}

fn ended(outcome: Outcome) -> Result<Option<Journal>, EngineError> {
    match outcome.last() {
        Outcome::Ended { .. } => Ok(None),
        other => Err(EngineError::Failed(format!(
            "the operation before this one could not be finished: {}",
            match other {
                Outcome::Stuck { reason, .. } | Outcome::Lost { reason, .. } => reason.clone(),
                _ => "it was interrupted again".to_owned(),
            }
        ))),
    }
}

/// What was live when `down` stopped everything.
async fn stopped_by_down(cx: &Context) -> Result<Option<Live>, EngineError> {
    let history = history(cx).await?;
    let was_live = |row: &&Deployment| {
        matches!(row.status, DeploymentStatus::Stable | DeploymentStatus::Baking) && !row.rejected
    };
    Ok(history.iter().find(was_live).map(|row| Live {
        number: row.number,
        release: row.release.clone(),
        version: row.version.clone(),
        slot: row.slot,
    }))
}

async fn nothing_open(cx: &Context, keeper: &Keeper) -> Result<Vec<String>, EngineError> {
    settle_unwatched_bake(cx, keeper).await?;
    start_what_should_run(cx, keeper, true).await
}

/// What is live does not run, or has lost its route.
pub(crate) async fn is_down(cx: &Context) -> Result<bool, EngineError> {
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let Some(live) = situation::live(cx, &environment).await? else { return Ok(false) };
    let release = situation::release(cx, &live.release).await?;
    let situation = situation::observe_situation(cx, &environment).await?;
    Ok(down_now(cx, &environment, &situation, &live, &release).await)
}

async fn down_now(
    cx: &Context,
    environment: &EnvironmentRecord,
    situation: &Situation,
    live: &Live,
    release: &Release,
) -> bool {
    let services = release.content.services.values();
    for service in services.filter(|service| !crate::jobs::is_job(service)) {
        let units = situation::units(cx, &service.name, live.slot);
        let seen = situation::observe_each(cx, units, Some(release)).await;
        if seen.iter().any(|(_, seen)| seen.running == Running::No) {
            return true;
        }
    }
    environment.routed && cx.router.is_some() && situation.weights.is_none()
}

/// Nothing adopts a running program whose supervisor is gone: the plan shall replace it as one that is down.
async fn disown(cx: &Context, situation: &mut Situation, live: &Live, release: &Release) -> bool {
    let mut any = false;
    for service in release.content.services.values() {
        let unit = situation::unit(cx, &service.name, live.slot);
        if situation::observe(cx, &unit, Some(release)).await.orphaned {
            cx.events.note(format!(
                "{} {} runs with nothing to start it again: another is started in its place",
                service.name, live.version
            ));
            situation.slots.entry(live.slot).and_modify(|side| side.running = Running::No);
            any = true;
        }
    }
    any
}

/// After a reboot or `down` nothing runs: starts what the ledger says should run, and puts its route back.
/// What a person stopped by `down` is started again only by a person.
pub(crate) async fn start_what_should_run(
    cx: &Context,
    keeper: &Keeper,
    by_a_person: bool,
) -> Result<Vec<String>, EngineError> {
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let live = match situation::live(cx, &environment).await? {
        Some(live) => Some(live),
        None if by_a_person => stopped_by_down(cx).await?,
        None => None,
    };
    let Some(live) = live else { return Ok(Vec::new()) };
    let release = situation::release(cx, &live.release).await?;
    let mut situation = situation::observe_situation(cx, &environment).await?;
    // Replacing what still serves may cost a moment of it: that is a person's choice.
    let orphaned = by_a_person && disown(cx, &mut situation, &live, &release).await;
    if !orphaned && !down_now(cx, &environment, &situation, &live, &release).await {
        refresh(cx).await;
        return Ok(Vec::new());
    }
    let missing = secrets_check(cx, &release);
    if missing.status == Severity::Error {
        return Err(super::Refused::new(
            missing.message,
            "set them and run `backout recover` again",
        )
        .into());
    }
    super::rollback::restart_live(cx, keeper, &environment, &situation, &live, release).await
}
