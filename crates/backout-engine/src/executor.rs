//! The executor: fold, decide, act, append. Normal running and recovery are this one loop.

mod wave;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backout_core::ids::{HostName, RequestId, Slot};
use backout_core::model::{
    Health, OperationKind, Release, RequestKind, RouterPolicy, judge_of_watch,
};
use backout_core::plan::{Action, Plan, WatchMode};
use backout_core::ports::{AdapterError, AppendError, Commit, ErrorClass, Receipt};
use backout_core::saga::{
    Decision, Ending, EntryKind, Failure, Opening, State, StepPhase, Try, decide,
};
use backout_judge::Arm;
use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::acted;
use crate::commands::requests::consume_requests;
use crate::commands::take_back::{plan_take_back, replan_cold};
use crate::context::Context;
use crate::effects::{self, Aside, Holds};
use crate::events::{Event, StepMark};
use crate::faults::{boundary, mutant};
use crate::journal::{Journal, JournalError};
use crate::keeper::{Held, Keeper};
use crate::sides::{Sides, Wanted};
use crate::situation;
use crate::watch::{WatchEnd, WatchScope, Watcher, run_watch};

/// An operation as it was left by a run.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its plan.
    pub plan: Plan,
    /// Its state.
    pub state: State,
    /// Its rows.
    pub rows: Opening,
}

/// How a run of an operation ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is over; if it was taken back, that operation's run stands in `then`.
    Ended {
        /// The operation.
        operation: Box<Finished>,
        /// How.
        ending: Ending,
        /// The operation that took it back.
        then: Option<Box<Outcome>>,
    },
    /// It waits for `retry`, `recover`, `rollback` or `resolve`.
    Stuck {
        /// The operation.
        operation: Box<Finished>,
        /// Why.
        reason: String,
    },
    /// Somebody else took it over.
    Yielded {
        /// The operation.
        operation: Box<Finished>,
        /// Superseded by a newer deploy (else: taken over by a rollback).
        superseded: bool,
    },
    /// A signal ended the watch; nothing was changed.
    Stopped {
        /// The operation.
        operation: Box<Finished>,
    },
    /// The lease or the ledger was lost; nothing further was started.
    Lost {
        /// The operation.
        operation: Box<Finished>,
        /// Why.
        reason: String,
        /// It was lost to another command, which goes on with the operation.
        taken_over: bool,
    },
}

impl Outcome {
    /// The last operation of the chain.
    #[must_use]
    pub fn last(&self) -> &Outcome {
        match self {
            Outcome::Ended { then: Some(then), .. } => then.last(),
            other => other,
        }
    }

    /// The operation.
    #[must_use]
    pub fn operation(&self) -> &Finished {
        match self {
            Outcome::Ended { operation, .. }
            | Outcome::Stuck { operation, .. }
            | Outcome::Yielded { operation, .. }
            | Outcome::Stopped { operation }
            | Outcome::Lost { operation, .. } => operation,
        }
    }
}

/// One run.
pub(crate) struct Executor<'a> {
    cx: &'a Context,
    keeper: &'a Keeper,
    journal: Journal,
    watcher: Option<Watcher>,
    /// Time used by work steps in this process, milliseconds.
    work_ms: u64,
    began: Instant,
}

enum Turn {
    Again,
    Over(Box<Outcome>),
}

impl<'a> Executor<'a> {
    pub fn new(cx: &'a Context, keeper: &'a Keeper, journal: Journal) -> Self {
        Self { cx, keeper, journal, watcher: None, work_ms: 0, began: Instant::now() }
    }

    fn finished(&self) -> Box<Finished> {
        Box::new(Finished {
            plan: self.journal.plan.clone(),
            state: self.journal.state.clone(),
            rows: self.journal.rows.clone(),
        })
    }

    fn lost(&self, reason: String, fenced: bool) -> Outcome {
        let taken_over = fenced || self.keeper.is_taken_over();
        Outcome::Lost { operation: self.finished(), reason, taken_over }
    }

    fn note(&mut self, kind: EntryKind) -> Result<(), JournalError> {
        Ok(self.journal.note(self.cx.now(), self.keeper.lease.epoch, kind)?)
    }

    async fn flush(&mut self) -> Result<(), JournalError> {
        self.journal.flush(self.cx.ledger.as_ref(), &self.keeper.lease).await
    }

    fn tell(&self, step: usize, mark: StepMark, message: impl Into<String>) {
        let plan = &self.journal.plan;
        self.cx.events.send(Event::Step {
            kind: plan.kind,
            index: step,
            total: plan.steps.len(),
            name: plan.steps[step].name.clone(),
            subject: plan.steps[step].subject.clone(),
            mark,
            message: message.into(),
        });
    }

    /// Runs to the end. Boxed by callers that recurse into the way back.
    pub async fn run(mut self) -> Outcome {
        loop {
            // Boxed: a way back runs inside the turn that failed, and stacks are small.
            match Box::pin(self.turn()).await {
                Ok(Turn::Again) => {}
                Ok(Turn::Over(outcome)) => return *outcome,
                Err(error) => {
                    let fenced = matches!(error, JournalError::Append(AppendError::Fenced { .. }));
                    return self.lost(error.to_string(), fenced);
                }
            }
        }
    }

    async fn turn(&mut self) -> Result<Turn, JournalError> {
        if let Held::Lost(reason) = self.keeper.held() {
            return Ok(Turn::Over(Box::new(self.lost(reason, false))));
        }
        let mut decision = decide(&self.journal.plan, &self.journal.state, self.cx.now());
        if mutant("retry_without_limit")
            && let Decision::Fail { .. } | Decision::BecomeStuck { .. } = decision
            && let Some(step) = self.journal.state.current()
        {
            let attempt = self.journal.state.steps[step].attempts + 1;
            decision = Decision::Run { tries: vec![Try { step, attempt }] };
        }
        if matches!(decision, Decision::Run { .. } | Decision::Wait { .. })
            && self.cx.hands_over(self.journal.plan.kind)
        {
            return self.stop().await;
        }
        match decision {
            Decision::Run { tries } => match tries[..] {
                [Try { step, attempt }] => Box::pin(self.run_step(step, attempt)).await,
                _ => Box::pin(self.run_wave(tries)).await,
            },
            Decision::Observe { steps } => self.observe(steps).await,
            Decision::Wait { until } => self.wait(until).await,
            Decision::Skip { step, warning } => {
                if let Some(message) = warning {
                    self.cx.events.warn(message.clone());
                    self.note(EntryKind::Warning { message })?;
                }
                self.tell(step, StepMark::Skipped, "");
                self.note(EntryKind::StepSkipped { step })?;
                Ok(Turn::Again)
            }
            Decision::Fail { failure } => {
                // A traffic move that was refused may have come second: the router had gone back by itself.
                let failure = acted::seen(self.cx).await.unwrap_or(failure);
                self.fail(failure)?;
                Ok(Turn::Again)
            }
            Decision::TakeBack { failure } => Box::pin(self.take_back(failure)).await,
            Decision::Yield => self.give_way().await,
            Decision::BecomeStuck { step, reason } => {
                Box::pin(self.become_stuck(step, reason)).await
            }
            Decision::IsStuck { reason, .. } => {
                self.flush().await?;
                Ok(Turn::Over(Box::new(Outcome::Stuck { operation: self.finished(), reason })))
            }
            Decision::End { ending } => self.end(ending).await,
            Decision::Over => {
                let ending =
                    self.journal.state.ended.clone().unwrap_or(Ending::Done { healthy: true });
                Ok(Turn::Over(Box::new(Outcome::Ended {
                    operation: self.finished(),
                    ending,
                    then: None,
                })))
            }
        }
    }

    fn fail(&mut self, failure: Failure) -> Result<(), JournalError> {
        self.cx.events.send(Event::Failing {
            trigger: failure.trigger,
            evidence: failure.evidence.clone(),
            at_us: self.cx.now().as_microsecond(),
        });
        self.note(EntryKind::Failing { failure })
    }

    async fn run_step(&mut self, step: usize, attempt: u32) -> Result<Turn, JournalError> {
        let lease = &self.keeper.lease;
        if consume_requests(self.cx, &mut self.journal, lease, None).await? {
            return Ok(Turn::Again);
        }
        let name = self.journal.plan.steps[step].name.clone();
        let resumed_ms = self.elapsed_before(step);
        boundary("before_intent", &name);
        let wanted = self.sides_wanted(step).await;
        self.note(EntryKind::StepStarted { step, attempt })?;
        let asked = ask(self.cx, wanted);
        let (flushed, sides) = tokio::join!(self.flush(), asked);
        flushed?;
        let mut aside = Aside { sides, ..Aside::default() };
        boundary("after_intent", &name);
        self.tell(
            step,
            StepMark::Started,
            if attempt > 1 { format!("try {attempt}") } else { String::new() },
        );
        if matches!(self.journal.plan.steps[step].action, Action::Watch { .. }) {
            return Box::pin(self.watch(step, resumed_ms)).await;
        }
        if mutant("outcome_before_effect") {
            self.done(step, false, Receipt::default())?;
            self.flush().await?;
        }
        boundary("before_effect", &name);
        if self.keeper.is_stale() {
            // It was stopped since its intent: somebody else may have gone on meanwhile.
            self.cx.ledger.renew(&self.keeper.lease).await?;
            aside.sides = None;
        }
        let mut result = self.effect(step, attempt, &mut aside).await;
        if let Some(message) = aside.heard.take() {
            self.cx.events.warn(message.clone());
            self.note(EntryKind::Warning { message })?;
            self.flush().await?;
            boundary("after_heard", &name);
            aside.noted = true;
            result = self.effect(step, attempt, &mut aside).await;
        }
        boundary("after_effect", &name);
        if mutant("outcome_before_effect") {
            return Ok(Turn::Again);
        }
        let turn = match result {
            Some(result) => self.outcome(step, result),
            None => {
                let message = "cut off by a take-over".to_owned();
                self.note(EntryKind::StepFailed { step, class: ErrorClass::Unknown, message })?;
                consume_requests(self.cx, &mut self.journal, lease, None).await?;
                Ok(Turn::Again)
            }
        };
        boundary("before_outcome", &name);
        turn
    }

    /// How long one try of a step may take.
    fn time_for(&self, step: usize) -> Result<Duration, AdapterError> {
        let plan = &self.journal.plan;
        let budget_ms = plan.work_timeout_ms.saturating_sub(self.work_ms);
        if budget_ms == 0 {
            let limit_s = plan.work_timeout_ms / 1000;
            let message = format!("no time left: its work took longer than {limit_s} s");
            return Err(AdapterError::permanent(message));
        }
        Ok(Duration::from_millis(plan.steps[step].timeout_ms.min(budget_ms)))
    }

    /// The sides of a traffic move. They are told apart before its intent, and asked for while that is made durable.
    async fn sides_wanted(&self, step: usize) -> Option<Result<Wanted, AdapterError>> {
        match &self.journal.plan.steps[step].action {
            Action::SetTraffic(traffic) => Some(Wanted::of(self.cx, &self.journal, traffic).await),
            _ => None,
        }
    }

    /// Makes one try; `None` if a person's take-over came while it hung.
    async fn effect(
        &mut self,
        step: usize,
        attempt: u32,
        aside: &mut Aside,
    ) -> Option<Result<Receipt, AdapterError>> {
        let plan = &self.journal.plan;
        let timeout = match self.time_for(step) {
            Ok(timeout) => timeout,
            Err(error) => return Some(Err(error)),
        };
        let step_cx = effects::step_cx(
            self.cx,
            plan,
            &plan.steps[step],
            attempt,
            self.keeper.lease.epoch,
            timeout,
        );
        let action = plan.steps[step].action.clone();
        self.arm_dead_man(&action);
        let began = Instant::now();
        let mut result = {
            let effect = effects::apply(self.cx, &self.journal, &action, &step_cx, aside);
            tokio::select! {
                result = tokio::time::timeout(timeout, effect) => Some(result.unwrap_or_else(|_| no_answer(timeout))),
                why = self.keeper.lost() => Some(Err(AdapterError::unknown(format!("the lease was lost: {why}")))),
                () = crate::commands::requests::take_over_wanted(self.cx, &plan.operation) => None,
            }
        };
        let took = began.elapsed();
        self.work_ms += u64::try_from(took.as_millis()).unwrap_or(0);
        if let Some(Ok(receipt)) = &mut result {
            receipt.took_us = u64::try_from(took.as_micros()).ok();
        }
        result
    }

    /// The keeper renews a dead-man from just before it is armed until a move without one is made.
    fn arm_dead_man(&self, action: &Action) {
        if let Action::SetTraffic(traffic) = action {
            let after_ms = match (&self.cx.policy.router, traffic.dead_man) {
                (RouterPolicy::Builtin { dead_man_ms, .. }, true) => Some(*dead_man_ms),
                _ => None,
            };
            self.keeper.set_dead_man(after_ms);
        }
    }

    fn outcome(
        &mut self,
        step: usize,
        result: Result<Receipt, AdapterError>,
    ) -> Result<Turn, JournalError> {
        match result {
            Ok(receipt) => {
                self.tell(step, StepMark::Done, receipt.message.clone());
                for message in receipt.warnings.clone() {
                    self.cx.events.warn(message.clone());
                    self.note(EntryKind::Warning { message })?;
                }
                self.done(step, false, receipt)?;
            }
            Err(error) => {
                self.tell(step, StepMark::Failed, error.to_string());
                let kind =
                    EntryKind::StepFailed { step, class: error.class, message: error.to_string() };
                self.note(kind)?;
            }
        }
        Ok(Turn::Again)
    }

    fn done(&mut self, step: usize, adopted: bool, receipt: Receipt) -> Result<(), JournalError> {
        self.note(EntryKind::StepDone { step, adopted, receipt })?;
        let plan = &self.journal.plan;
        let safe = plan.kind == OperationKind::Rollback
            && plan.live_at == Some(step)
            && self.journal.state.traffic_safe_at.is_none();
        if safe {
            let after_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(0);
            self.cx.events.send(Event::TrafficSafe { after_ms });
            self.note(EntryKind::TrafficSafe)?;
        }
        Ok(())
    }

    async fn observe(&mut self, steps: Vec<usize>) -> Result<Turn, JournalError> {
        let name = self.journal.plan.steps[steps[0]].name.clone();
        boundary("before_observe", &name);
        for step in &steps {
            // A watch has no effect: it is simply begun again.
            self.arm_dead_man(&self.journal.plan.steps[*step].action);
        }
        let look = |step: usize| {
            let (cx, journal) = (self.cx, &self.journal);
            let action = &journal.plan.steps[step].action;
            async move {
                match mutant("no_observe") {
                    true => (step, Holds::Yes),
                    false => (step, effects::holds(cx, journal, action).await),
                }
            }
        };
        let at_once = self.cx.policy.hosts.at_once.max(1);
        let seen: Vec<_> = stream::iter(steps).map(look).buffered(at_once).collect().await;
        for (step, holds) in seen {
            match holds {
                Holds::Yes => {
                    self.tell(step, StepMark::Adopted, "seen done");
                    self.done(step, true, Receipt::default())?;
                }
                Holds::No | Holds::Unknown => self.note(EntryKind::StepNotApplied { step })?,
            }
        }
        boundary("after_observe", &name);
        Ok(Turn::Again)
    }

    async fn wait(&mut self, until: Timestamp) -> Result<Turn, JournalError> {
        self.flush().await?;
        let ms = (until.as_millisecond() - self.cx.now().as_millisecond()).clamp(1, 1_000);
        tokio::time::sleep(Duration::from_millis(u64::try_from(ms).unwrap_or(1))).await;
        consume_requests(self.cx, &mut self.journal, &self.keeper.lease, None).await?;
        Ok(Turn::Again)
    }

    /// Milliseconds of a hold or bake that passed before this process took it up. A clock that was set back counts as none.
    fn elapsed_before(&self, step: usize) -> u64 {
        let Action::Watch { mode, .. } = &self.journal.plan.steps[step].action else { return 0 };
        // A stage is held anew: its samples are gone. Bake, keeping and pauses are told by the clock.
        if !matches!(
            mode,
            WatchMode::Bake { .. } | WatchMode::Keep { .. } | WatchMode::Pause { .. }
        ) {
            return 0;
        }
        let started = self.journal.state.steps[step].started_at;
        started.map_or(0, |at| {
            u64::try_from(self.cx.now().as_millisecond() - at.as_millisecond()).unwrap_or(0)
        })
    }

    async fn watch(&mut self, step: usize, elapsed_ms: u64) -> Result<Turn, JournalError> {
        let Action::Watch { side, baseline, ref mode, ref hosts } =
            self.journal.plan.steps[step].action
        else {
            return Ok(Turn::Again);
        };
        let hosts = hosts.clone();
        let just_started = matches!(mode, WatchMode::Ready { .. });
        self.keep_dead_man(step);
        let fits = |watcher: &Watcher| watcher.judged().slot == side && watcher.hosts == hosts;
        let mut watcher = match self.watcher.take().filter(fits) {
            Some(watcher) => watcher,
            None => match self.watcher_for(side, baseline, (just_started, &hosts)).await {
                Ok(watcher) => watcher,
                Err(error) => return self.outcome(step, Err(error)),
            },
        };
        let scope = WatchScope {
            cx: self.cx,
            keeper: self.keeper,
            step,
            elapsed_ms,
            operation_began: self.began,
        };
        let end = run_watch(&scope, &mut self.journal, &mut watcher).await;
        self.watcher = Some(watcher);
        match end? {
            WatchEnd::Done(receipt) => return self.outcome(step, Ok(receipt)),
            WatchEnd::GaveUp(why) => {
                return self.outcome(step, Err(AdapterError::permanent(why)));
            }
            WatchEnd::Failing(failure) => {
                if self.journal.state.failing.is_none() {
                    self.fail(failure)?;
                }
            }
            WatchEnd::Yield => {}
            WatchEnd::Stopped => return self.stop().await,
            WatchEnd::Lost(reason) => {
                return Ok(Turn::Over(Box::new(self.lost(reason, false))));
            }
        }
        Ok(Turn::Again)
    }

    /// Leaves it as it is. One that is handed over is gone on with, where an interrupted one may go back.
    async fn stop(&mut self) -> Result<Turn, JournalError> {
        if self.cx.hands_over(self.journal.plan.kind) {
            let request = RequestId::from_entropy((self.cx.entropy)());
            let by = self.cx.holder.label.clone();
            self.note(EntryKind::Requested { request, kind: RequestKind::HandOver, by })?;
        }
        self.flush().await?;
        Ok(Turn::Over(Box::new(Outcome::Stopped { operation: self.finished() })))
    }

    /// Who takes a watch up renews the dead-man that stands under it.
    fn keep_dead_man(&self, step: usize) {
        let before = self.journal.plan.steps[..step].iter().zip(&self.journal.state.steps[..step]);
        let moved = before.rev().find(|(step, state)| {
            state.phase == StepPhase::Done && matches!(step.action, Action::SetTraffic(_))
        });
        if let Some((step, _)) = moved {
            self.arm_dead_man(&step.action);
        }
    }

    async fn watcher_for(
        &self,
        side: Slot,
        baseline: Option<Slot>,
        (just_started, hosts): (bool, &[HostName]),
    ) -> Result<Watcher, AdapterError> {
        let slots = &self.journal.rows.environment.slots;
        let load = async |slot: Slot| -> Result<Option<(Slot, u64, Arc<Release>)>, AdapterError> {
            let Some(record) = slots.get(&slot) else { return Ok(None) };
            let release = situation::release(self.cx, &record.release)
                .await
                .map_err(|error| AdapterError::transient(error.to_string()))?;
            Ok(Some((slot, record.deployment, release)))
        };
        let judged = load(side).await?.ok_or_else(|| {
            AdapterError::permanent(format!("slot {side} holds nothing that could be watched"))
        })?;
        let baseline = match baseline {
            Some(slot) => load(slot).await?,
            None => None,
        };
        let environment = &self.journal.rows.environment;
        let routed = environment.routed && environment.live.is_some();
        let (plan, number) = (&self.journal.plan, self.journal.state.watches);
        let settings = judge_of_watch(&self.cx.policy.judge, plan.arms_trip(), number);
        Ok(Watcher::start(self.cx, settings, judged, baseline, (routed, just_started, hosts)))
    }

    async fn give_way(&mut self) -> Result<Turn, JournalError> {
        self.flush().await?;
        let superseded = matches!(
            self.journal.state.yield_to,
            Some((_, backout_core::model::RequestKind::Supersede))
        );
        Ok(Turn::Over(Box::new(Outcome::Yielded { operation: self.finished(), superseded })))
    }

    fn health(&self) -> BTreeMap<String, Health> {
        self.watcher.as_ref().map(|watcher| watcher.health_of(Arm::Canary)).unwrap_or_default()
    }

    async fn end(&mut self, ending: Ending) -> Result<Turn, JournalError> {
        let health = self.health();
        boundary("before_end", "end");
        self.journal.end(self.cx.now(), self.keeper.lease.epoch, &ending, &health)?;
        self.flush().await?;
        boundary("after_end", "end");
        self.keeper.set_dead_man(None);
        crate::readiness::refresh(self.cx).await;
        Ok(Turn::Over(Box::new(Outcome::Ended { operation: self.finished(), ending, then: None })))
    }

    /// Closes this operation and opens the one that takes it back, in one commit; then runs that.
    async fn take_back(&mut self, failure: Failure) -> Result<Turn, JournalError> {
        self.flush().await?;
        let planned = plan_take_back(self.cx, &self.journal, &failure).await?;
        let next = match planned {
            Ok(plan) => plan,
            Err(reason) => {
                let step = self.journal.state.current().unwrap_or(0);
                return self.stuck_without_a_way_back(step, reason).await;
            }
        };
        let ending = Ending::TakenBack { by: next.operation.clone(), failure: Some(failure) };
        let then = self.hand_over(next, ending).await?;
        let ending = self.journal.state.ended.clone().unwrap_or(Ending::Done { healthy: false });
        let outcome =
            Outcome::Ended { operation: self.finished(), ending, then: Some(Box::new(then)) };
        Ok(Turn::Over(Box::new(outcome)))
    }

    /// A rollback whose warm side turned out not to be healthy starts it again; anything else waits for a person.
    async fn become_stuck(&mut self, step: usize, reason: String) -> Result<Turn, JournalError> {
        if let Some(next) = replan_cold(self.cx, &self.journal, step).await? {
            let message = format!("{reason}; it is started again");
            self.cx.events.warn(message.clone());
            self.note(EntryKind::Warning { message })?;
            let ending = Ending::TakenBack { by: next.operation.clone(), failure: None };
            let then = self.hand_over(next, ending).await?;
            let ending =
                self.journal.state.ended.clone().unwrap_or(Ending::Done { healthy: false });
            let outcome =
                Outcome::Ended { operation: self.finished(), ending, then: Some(Box::new(then)) };
            return Ok(Turn::Over(Box::new(outcome)));
        }
        self.note(EntryKind::Stuck { step, reason })?;
        Ok(Turn::Again)
    }

    async fn stuck_without_a_way_back(
        &mut self,
        step: usize,
        reason: String,
    ) -> Result<Turn, JournalError> {
        if self.journal.state.stuck.is_none() {
            self.note(EntryKind::Stuck { step, reason: reason.clone() })?;
        }
        self.flush().await?;
        Ok(Turn::Over(Box::new(Outcome::Stuck { operation: self.finished(), reason })))
    }

    async fn hand_over(&mut self, next: Plan, ending: Ending) -> Result<Outcome, JournalError> {
        let epoch = self.keeper.lease.epoch;
        let health = self.health();
        self.journal.end(self.cx.now(), epoch, &ending, &health)?;
        // A rollback that is planned anew leaves what the first one left.
        let made_by_this =
            next.left.as_ref().map(|left| left.number) == self.journal.plan.deployment;
        let rows = &self.journal.rows;
        let left = if made_by_this { rows.deployment.clone() } else { rows.left.clone() };
        let opened = Journal::open(self.cx, next, &self.journal.rows.environment, left, epoch)?;
        commit_both(self.cx, self.keeper, &mut self.journal, opened).await
    }
}

/// Commits the end of one operation and the beginning of the next together, and runs the next.
pub(crate) async fn commit_both(
    cx: &Context,
    keeper: &Keeper,
    old: &mut Journal,
    mut new: Journal,
) -> Result<Outcome, JournalError> {
    let commits: Vec<Commit> = [old.commit(), new.commit()].into_iter().flatten().collect();
    boundary("before_hand_over", "hand_over");
    cx.ledger.commit(&keeper.lease, &commits).await?;
    boundary("after_hand_over", "hand_over");
    old.committed();
    new.committed();
    cx.events.send(Event::Opened { plan: Box::new(new.plan.clone()), resumed: false });
    Ok(Box::pin(Executor::new(cx, keeper, new).run()).await)
}

/// Beside an intent the sides are asked for as long as this; what hangs then is left to the effect, which has its
/// own limit.
const ASK_LIMIT: Duration = Duration::from_millis(200);

/// Where the sides are now. Asking changes nothing.
async fn ask(
    cx: &Context,
    wanted: Option<Result<Wanted, AdapterError>>,
) -> Option<Result<Sides, AdapterError>> {
    match wanted? {
        Ok(wanted) => tokio::time::timeout(ASK_LIMIT, wanted.ask(cx)).await.ok(),
        Err(error) => Some(Err(error)),
    }
}

fn no_answer(within: Duration) -> Result<Receipt, AdapterError> {
    Err(AdapterError::unknown(format!("no answer within {} s", within.as_secs())))
}

/// Whether a watch step of a plan is where it stands now.
pub(crate) fn is_baking(journal: &Journal) -> bool {
    journal.state.current().is_some_and(|step| {
        matches!(
            journal.plan.steps[step].action,
            Action::Watch { mode: WatchMode::Bake { .. } | WatchMode::Keep { .. }, .. }
        )
    }) && journal.state.steps.iter().all(|step| step.phase != StepPhase::Refused)
}
