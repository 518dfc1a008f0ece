//! The driver: `decide`, act, journal, as the engine's executor does.

use std::collections::BTreeMap;

use backout_core::ids::{DeploymentId, OperationId, ReleaseId, RequestId};
use backout_core::model::{Health, OperationKind, Policy, RequestKind, Trigger};
use backout_core::plan::{Action, Plan, WatchMode};
use backout_core::ports::{ErrorClass, Receipt};
use backout_core::saga::{
    Decision, ENTRY_FORMAT, Ending, Entry, EntryKind, Failure, Try, decide, fold, on_end,
    on_progress, opening,
};
use jiff::Timestamp;

use super::checks::label;
use super::ledger::{Op, Store};
use super::script::{Fault, Mutant, Script};
use super::world::World;
use crate::fixtures::{Setup, Start, at};

/// No run of ours takes more turns than this.
const TURNS: usize = 600;

/// How a run of an operation was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It (and what took it back) is over.
    Over(Ending),
    /// It waits for a person.
    Stuck(String),
    /// It was given to whoever asked.
    Yielded(RequestKind),
}

/// Why a run did not come to an end by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// The holder died.
    Crash,
    /// Something that must never be.
    Broken(String),
}

/// One run: a world, a ledger, whoever holds it, and what goes wrong.
#[derive(Clone)]
pub struct Sim {
    pub setup: Setup,
    pub policy: Policy,
    pub world: World,
    pub store: Store,
    pub script: Script,
    pub mutant: Option<Mutant>,
    pub now_ms: i64,
    /// Tries so far.
    pub tries: usize,
    /// Boundaries so far.
    pub boundaries: usize,
    /// Faults after which an effect may rightly come again.
    pub excuses: u32,
    /// Keys of effects that were refused for good.
    pub refused: std::collections::BTreeSet<String>,
    /// Nothing goes wrong in this run, so that rows must say exactly what is.
    pub exact: bool,
    /// Any effect was ever refused for good: ending stuck is right.
    pub was_refused: bool,
    /// Operations so far, for ids.
    pub operations: u64,
    /// Steps of the operation's state machine that were seen: state, entry, state.
    pub seen: std::collections::BTreeSet<(String, String, String)>,
    /// What `decide` said in which state.
    pub said: std::collections::BTreeSet<(String, &'static str)>,
    /// Whether `seen` and `said` are kept.
    pub records: bool,
    /// The deployment that a trip took out, and its release.
    pub owed: Option<(DeploymentId, ReleaseId)>,
}

pub fn failure(trigger: Trigger, evidence: &str, bad: bool, by_router: bool) -> Failure {
    Failure { trigger, evidence: vec![evidence.to_owned()], release_is_bad: bad, by_router }
}

impl Sim {
    pub fn new(setup: Setup, start: Start) -> Self {
        Self {
            setup,
            policy: setup.policy(),
            world: World::new(setup, start),
            store: Store::new(setup, start),
            script: Script::default(),
            mutant: None,
            now_ms: 0,
            tries: 0,
            boundaries: 0,
            excuses: 0,
            refused: std::collections::BTreeSet::new(),
            exact: false,
            was_refused: false,
            operations: 0,
            seen: std::collections::BTreeSet::new(),
            said: std::collections::BTreeSet::new(),
            records: false,
            owed: None,
        }
    }

    pub fn now(&self) -> Timestamp {
        at(self.now_ms)
    }

    pub(super) fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The holder may die here.
    pub(super) fn boundary(&mut self) -> Result<(), Halt> {
        let here = self.boundaries;
        self.boundaries += 1;
        if self.script.trips == Some(here) {
            self.let_trip_fire();
        }
        if self.script.deaths.contains(&here) {
            self.excuses += 1;
            return Err(Halt::Crash);
        }
        Ok(())
    }

    /// A new operation in memory, as the engine opens it.
    pub(super) fn opened(&mut self, plan: Plan, from: Option<&Op>) -> Result<Op, Halt> {
        let environment = from.map_or(&self.store.environment, |op| &op.rows.environment).clone();
        let left = plan.left.as_ref().and_then(|left| match from {
            Some(op) if op.plan.deployment == Some(left.number) => op.rows.deployment.clone(),
            _ => self.store.deployments.get(&left.number).cloned(),
        });
        let state = fold(&plan, &[]).map_err(|e| Halt::Broken(e.to_string()))?;
        let rows = opening(&plan, &environment, left, "/srv/shop");
        let live_before = environment.live;
        let mut op = Op { plan, entries: Vec::new(), state, rows, live_before };
        self.note(&mut op, EntryKind::Claimed { holder: "ann@host:1".to_owned() })?;
        Ok(op)
    }

    /// Opens a plan durably and runs it.
    pub fn begin(&mut self, plan: Plan) -> Result<End, Halt> {
        let op = self.opened(plan, None)?;
        self.store.open(&op.plan);
        self.flush(&op)?;
        self.boundary()?;
        self.drive(op)
    }

    /// Adds a fact in memory.
    pub(super) fn note(&mut self, op: &mut Op, kind: EntryKind) -> Result<(), Halt> {
        let (epoch, before) = (self.store.epoch, self.records.then(|| op.state.clone()));
        op.entries.push(Entry { format: ENTRY_FORMAT, at: self.now(), epoch, kind });
        op.state = fold(&op.plan, &op.entries).map_err(|e| Halt::Broken(e.to_string()))?;
        let entry = op.entries.last().unwrap();
        let forgets = self.has(Mutant::SkipsHalfDoneStep)
            && matches!(entry.kind, EntryKind::StepStarted { .. });
        if !forgets {
            on_progress(&op.plan, &mut op.rows, entry);
        }
        if let Some(before) = before {
            self.remember(op, &before);
        }
        self.check_entry(op).map_err(Halt::Broken)
    }

    pub(super) fn flush(&mut self, op: &Op) -> Result<(), Halt> {
        self.store.commit(op);
        Ok(())
    }

    /// Runs an operation to where it is left.
    pub fn drive(&mut self, mut op: Op) -> Result<End, Halt> {
        for _ in 0..TURNS {
            if let Some(end) = self.turn(&mut op)? {
                return Ok(end);
            }
        }
        Err(Halt::Broken(format!("{} does not end", op.plan.kind)))
    }

    /// `decide`, or a seeded mistake in it.
    fn decide(&self, op: &Op) -> Decision {
        let mut plan = op.plan.clone();
        let mut state = op.state.clone();
        let mut now = self.now();
        match self.mutant {
            Some(Mutant::RetryWithoutLimit) => {
                plan.steps.iter_mut().for_each(|step| step.max_attempts = u32::MAX);
            }
            Some(Mutant::NoBackoff) => now = at(self.now_ms + 3_600_000),
            Some(Mutant::IgnoresFailure) => state.failing = None,
            Some(Mutant::DoesNotYield) => state.yield_to = None,
            Some(Mutant::GoesBackAfterPivot) => {
                let steps = plan.steps.iter_mut();
                steps.for_each(|step| step.nature = backout_core::plan::Nature::Compensatable);
            }
            _ => {}
        }
        let decision = decide(&plan, &state, now);
        match (self.mutant, &decision) {
            (Some(Mutant::NoObserveTriedAgain), Decision::Observe { steps }) => {
                let step = &steps[0];
                let attempt = state.steps[*step].attempts + 1;
                Decision::Run { tries: vec![Try { step: *step, attempt }] }
            }
            (
                Some(Mutant::SkipsFailedStep),
                Decision::Fail { .. } | Decision::BecomeStuck { .. },
            ) => Decision::Skip { step: state.current().unwrap_or(0), warning: None },
            (Some(Mutant::EndsEarly), Decision::Run { tries })
                if tries[0].step + 1 == plan.steps.len() && tries[0].step > 0 =>
            {
                Decision::End { ending: Ending::Done { healthy: true } }
            }
            _ => decision,
        }
    }

    fn turn(&mut self, op: &mut Op) -> Result<Option<End>, Halt> {
        let decision = self.decide(op);
        if self.records {
            self.said.insert((label(op, &op.state), word(&decision)));
        }
        match decision {
            Decision::Run { tries } => self.run_tries(op, &tries)?,
            Decision::Observe { steps } => {
                for step in steps {
                    if self.has(Mutant::NoObserveTakenForDone) || self.holds(op, step) {
                        self.done(op, step, true, Receipt::default())?;
                    } else {
                        self.note(op, EntryKind::StepNotApplied { step })?;
                    }
                }
            }
            Decision::Wait { until } => {
                self.flush(op)?;
                self.now_ms += (until.as_millisecond() - self.now().as_millisecond()).max(1);
            }
            Decision::Skip { step, warning } => {
                if let Some(message) = warning {
                    self.note(op, EntryKind::Warning { message })?;
                }
                self.note(op, EntryKind::StepSkipped { step })?;
            }
            Decision::Fail { failure } => {
                let failure = self.acted().unwrap_or(failure);
                self.note(op, EntryKind::Failing { failure })?;
            }
            Decision::TakeBack { failure } => return self.take_back(op, failure).map(Some),
            Decision::Yield => {
                self.flush(op)?;
                let kind = op.state.yield_to.as_ref().map(|(_, kind)| *kind);
                return Ok(Some(End::Yielded(kind.unwrap_or(RequestKind::TakeOver))));
            }
            Decision::BecomeStuck { step, reason } => {
                self.note(op, EntryKind::Stuck { step, reason })?;
            }
            Decision::IsStuck { reason, .. } => {
                self.flush(op)?;
                return Ok(Some(End::Stuck(reason)));
            }
            Decision::End { ending } => {
                self.boundary()?;
                self.end(op, &ending)?;
                self.flush(op)?;
                self.boundary()?;
                return Ok(Some(End::Over(ending)));
            }
            Decision::Over => {
                return Ok(Some(End::Over(op.state.ended.clone().unwrap())));
            }
        }
        Ok(None)
    }

    /// Adds the end, and brings the rows to it.
    pub(super) fn end(&mut self, op: &mut Op, ending: &Ending) -> Result<(), Halt> {
        self.note(op, EntryKind::Ended { ending: ending.clone() })?;
        let now = self.now();
        let health: BTreeMap<String, Health> = BTreeMap::new();
        on_end(&op.plan, &op.state, &mut op.rows, ending, &health, now);
        Ok(())
    }

    /// Consumes the request of the script, if this is its moment. True: decide anew.
    fn consume_request(&mut self, op: &mut Op, step: usize) -> Result<bool, Halt> {
        let Some((when, kind)) = self.script.request.filter(|(when, _)| *when == self.tries) else {
            return Ok(false);
        };
        let deploying = op.plan.kind == OperationKind::Deploy;
        let live = op.plan.live_at.is_some_and(|i| op.state.steps[i].is_finished());
        let mode = match &op.plan.steps[step].action {
            Action::Watch { mode, .. } => Some(mode),
            _ => None,
        };
        let accepted = match kind {
            RequestKind::TakeOver => true,
            RequestKind::Abort => deploying,
            RequestKind::PromoteFull => deploying && !live,
            RequestKind::Promote => matches!(mode, Some(WatchMode::Hold { .. })),
            RequestKind::Supersede => {
                matches!(mode, Some(WatchMode::Bake { .. } | WatchMode::Keep { .. }))
            }
            RequestKind::Pause
            | RequestKind::Resume
            | RequestKind::Retry
            | RequestKind::HandOver
            | RequestKind::Deploy => false,
        };
        self.script.request = None;
        if !accepted {
            return Ok(false);
        }
        let request = RequestId::new(format!("rq_{when}")).unwrap();
        self.note(op, EntryKind::Requested { request, kind, by: "bob@host:2".to_owned() })?;
        if kind == RequestKind::Abort {
            let aborted = failure(Trigger::Manual, "aborted by bob", false, false);
            let failure = self.acted().unwrap_or(aborted);
            self.note(op, EntryKind::Failing { failure })?;
        }
        self.flush(op)?;
        Ok(true)
    }

    fn fault(&mut self, op: &Op, step: usize) -> Option<Fault> {
        let key = &op.plan.steps[step].key;
        let mine = self.script.faults.get(&self.tries).copied();
        let again = match &mut self.script.always {
            Some((wanted, fault, left)) if wanted == key && *left > 0 => {
                *left -= 1;
                Some(*fault)
            }
            _ => None,
        };
        self.tries += 1;
        let fault = mine.or(again);
        if fault.is_some_and(Fault::excuses_a_repeat) {
            self.excuses += 1;
        }
        fault
    }

    /// Those of a wave are all intended before the first effect.
    fn run_tries(&mut self, op: &mut Op, tries: &[Try]) -> Result<(), Halt> {
        if self.consume_request(op, tries[0].step)? {
            return Ok(());
        }
        self.boundary()?;
        for Try { step, attempt } in tries {
            self.note(op, EntryKind::StepStarted { step: *step, attempt: *attempt })?;
        }
        if !self.has(Mutant::IntentNotDurable) {
            self.flush(op)?;
        }
        self.boundary()?;
        let died = tries.iter().try_for_each(|tried| self.run_step(op, tried.step));
        if died.is_err() && tries.len() > 1 {
            // What the others had done may not have been written down.
            self.excuses += 1;
        }
        died
    }

    fn run_step(&mut self, op: &mut Op, step: usize) -> Result<(), Halt> {
        if self.has(Mutant::DoneBeforeEffect) {
            self.done(op, step, false, Receipt::default())?;
            self.flush(op)?;
        }
        let fault = self.fault(op, step);
        self.now_ms += 10;
        if fault == Some(Fault::CrashBefore) {
            return Err(Halt::Crash);
        }
        let result = if matches!(op.plan.steps[step].action, Action::Watch { .. }) {
            self.watch(op, step, fault)?
        } else {
            Some(self.effect(op, step, fault))
        };
        if fault == Some(Fault::CrashAfter) {
            return Err(Halt::Crash);
        }
        self.boundary()?;
        if self.has(Mutant::DoneBeforeEffect) {
            return Ok(());
        }
        match result {
            None => Ok(()),
            Some(Ok(receipt)) => self.done(op, step, false, receipt),
            Some(Err((ErrorClass::Unknown, _))) if self.has(Mutant::UnknownIsDone) => {
                self.done(op, step, false, Receipt::default())
            }
            Some(Err((class, message))) => {
                let class = match class {
                    ErrorClass::Permanent if self.has(Mutant::PermanentIsTransient) => {
                        ErrorClass::Transient
                    }
                    class => class,
                };
                self.note(op, EntryKind::StepFailed { step, class, message })
            }
        }
    }

    fn refuse(&mut self, op: &Op, step: usize) {
        self.was_refused = true;
        self.refused.insert(op.plan.effect_key(&op.plan.steps[step]));
    }

    fn effect(
        &mut self,
        op: &Op,
        step: usize,
        fault: Option<Fault>,
    ) -> Result<Receipt, (ErrorClass, String)> {
        let error = |class, words: &str| Err((class, words.to_owned()));
        self.check_intent(op, step);
        match fault {
            None | Some(Fault::CrashAfter) => {
                self.apply(op, step)?;
                Ok(Receipt::default())
            }
            Some(Fault::Transient) => error(ErrorClass::Transient, "try again later"),
            Some(Fault::Permanent) => {
                self.refuse(op, step);
                error(ErrorClass::Permanent, "refused")
            }
            Some(Fault::UnknownApplied | Fault::Timeout) => {
                self.apply(op, step)?;
                error(ErrorClass::Unknown, "no answer")
            }
            Some(Fault::UnknownNotApplied | Fault::CrashBefore) => {
                error(ErrorClass::Unknown, "no answer")
            }
        }
    }

    /// The watch of a step; `None`: a failing verdict was journaled instead of an outcome.
    fn watch(&mut self, op: &mut Op, step: usize, fault: Option<Fault>) -> Result<Watched, Halt> {
        let Action::Watch { mode, side, hosts, .. } = op.plan.steps[step].action.clone() else {
            return Ok(None);
        };
        let error = |class, words: &str| Ok(Some(Err((class, words.to_owned()))));
        if let Some(failure) = self.acted().filter(|_| op.plan.can_be_taken_back()) {
            self.note(op, EntryKind::Failing { failure })?;
            return Ok(None);
        }
        match fault {
            Some(Fault::Transient) => return error(ErrorClass::Transient, "can't watch now"),
            Some(Fault::UnknownApplied | Fault::UnknownNotApplied) => {
                return error(ErrorClass::Unknown, "cut off");
            }
            _ => {}
        }
        let Some(record) = op.rows.environment.slots.get(&side) else {
            return error(ErrorClass::Permanent, "holds nothing that could be watched");
        };
        let release = record.release.clone();
        let proven = self.has(Mutant::NoGate) && matches!(mode, WatchMode::Ready { .. });
        let on = if hosts.is_empty() { self.setup.host_names() } else { hosts };
        let runs = self.world.runs_on(&on, side, &release, false);
        let runs = runs && !self.world.bad.contains(&release);
        let keeps = matches!(mode, WatchMode::Keep { .. } | WatchMode::Pause { .. });
        let verdict_fails = matches!(fault, Some(Fault::Permanent | Fault::Timeout)) && !keeps;
        if verdict_fails && fault == Some(Fault::Permanent) {
            self.world.bad.insert(release.clone());
        }
        if (runs && !verdict_fails) || proven || keeps {
            let data = serde_json::json!({ "healthy": true });
            return Ok(Some(Ok(Receipt { data, ..Receipt::default() })));
        }
        if op.plan.can_be_taken_back() {
            let failure = failure(Trigger::Analysis, "it fails", true, false);
            self.note(op, EntryKind::Failing { failure })?;
            return Ok(None);
        }
        if matches!(mode, WatchMode::Verify { .. }) && fault != Some(Fault::Timeout) {
            let data = serde_json::json!({ "healthy": false });
            return Ok(Some(Ok(Receipt { data, ..Receipt::default() })));
        }
        self.refuse(op, step);
        error(ErrorClass::Permanent, "it did not become ready in time")
    }

    fn done(
        &mut self,
        op: &mut Op,
        step: usize,
        adopted: bool,
        receipt: Receipt,
    ) -> Result<(), Halt> {
        self.note(op, EntryKind::StepDone { step, adopted, receipt })?;
        let early = self.has(Mutant::LiveTooEarly)
            && matches!(op.plan.steps[step].action, Action::Start { .. });
        if early {
            op.rows.environment.live = op.plan.deployment;
        }
        let first = op.state.traffic_safe_at.is_none();
        if op.plan.kind == OperationKind::Rollback && op.plan.live_at == Some(step) && first {
            self.note(op, EntryKind::TrafficSafe)?;
        }
        Ok(())
    }

    pub(super) fn next_operation(&mut self) -> (u64, OperationId) {
        self.operations += 1;
        let id = OperationId::new(format!("op_{}", self.operations)).unwrap();
        (self.operations, id)
    }
}

/// A decision's name in the diagram's table.
fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Run { .. } => "run",
        Decision::Observe { .. } => "observe",
        Decision::Wait { .. } => "wait",
        Decision::Skip { .. } => "skip",
        Decision::Fail { .. } => "fail",
        Decision::TakeBack { .. } => "take back",
        Decision::Yield => "yield",
        Decision::BecomeStuck { .. } => "become stuck",
        Decision::IsStuck { .. } => "is stuck",
        Decision::End { .. } => "end",
        Decision::Over => "over",
    }
}

/// What a watch came to.
type Watched = Option<Result<Receipt, (ErrorClass, String)>>;
