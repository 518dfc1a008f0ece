//! What people and the next command do: deploy, roll back, recover, resolve, stop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backout_core::ids::RequestId;
use backout_core::model::{
    Deployment, DeploymentStatus, OperationKind, Release, RequestKind, RollbackType, Trigger,
};
use backout_core::plan::{
    Action, Live, Plan, PlanContext, RollbackWish, Seen, WatchMode, lint, plan_adopt, plan_deploy,
    plan_down, plan_rollback,
};
use backout_core::saga::{Ending, EntryKind, Failure, begun_batches, untouched_hosts};

use super::ledger::Op;
use super::run::{End, Halt, Sim, failure};
use super::script::Mutant;
use crate::fixtures::context;

/// What is done about an operation that was left alone, stuck or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum After {
    /// `recover` (and `retry` of a stuck one).
    Recover,
    /// A person's `rollback`.
    Rollback,
    /// `abort`.
    Abort,
    /// `down`.
    Down,
    /// `resolve`, and a deploy after it.
    Resolve,
}

impl After {
    pub const A_CRASH: [After; 4] = [After::Recover, After::Rollback, After::Abort, After::Down];
}

fn made_by(plan: &Plan) -> Option<Live> {
    Some(Live {
        number: plan.deployment?,
        release: plan.release.clone()?,
        version: plan.version.clone()?,
        slot: plan.slot,
    })
}

fn as_live(row: &Deployment) -> Live {
    Live {
        number: row.number,
        release: row.release.clone(),
        version: row.version.clone(),
        slot: row.slot,
    }
}

impl Sim {
    fn planning<'a>(
        &mut self,
        policy: &'a backout_core::model::Policy,
        number: u64,
    ) -> PlanContext<'a> {
        let (_, id) = self.next_operation();
        let mut cx = context(self.setup, policy, number);
        cx.operation = id;
        cx.now = self.now();
        cx
    }

    fn linted(&self, mut plan: Plan) -> Result<Plan, Halt> {
        let wrong = lint(&plan);
        if self.has(Mutant::StopsBeforeTraffic) {
            let action =
                |wanted: fn(&Action) -> bool| plan.steps.iter().position(|s| wanted(&s.action));
            let stop = plan.steps.iter().rposition(|s| matches!(s.action, Action::Stop { .. }));
            if let (Some(traffic), Some(stop)) =
                (action(|a| matches!(a, Action::SetTraffic(_))), stop)
                && traffic < stop
                && plan.kind == OperationKind::Rollback
            {
                let step = plan.steps.remove(stop);
                plan.steps.insert(traffic, step);
                plan.live_at = plan.live_at.map(|at| at + 1);
            }
        }
        if wrong.is_empty() { Ok(plan) } else { Err(Halt::Broken(wrong.join("; "))) }
    }

    /// `deploy`: of a version, with nothing else going on.
    pub fn deploy(&mut self, version: &str) -> Result<End, Halt> {
        self.store.epoch += 1;
        let plan = self.deploy_plan(version, None)?;
        self.begin(plan)
    }

    fn deploy_plan(&mut self, version: &str, from: Option<&Op>) -> Result<Plan, Halt> {
        let policy = self.policy.clone();
        let environment = from.map_or(&self.store.environment, |op| &op.rows.environment).clone();
        let cx = self.planning(&policy, environment.next_number);
        let situation = self.world.situation(&environment, self.store.live(&environment));
        let release = self.setup.release(version);
        let plan = plan_deploy(&cx, &situation, &release, false, &Seen::default());
        self.linted(plan.map_err(|refusal| Halt::Broken(refusal.to_string()))?)
    }

    /// `adopt`.
    pub fn adopt(&mut self, version: &str) -> Result<End, Halt> {
        self.store.epoch += 1;
        let policy = self.policy.clone();
        let cx = self.planning(&policy, 0);
        let release = self.setup.release(version);
        self.begin(plan_adopt(&cx, &release))
    }

    /// The way back of a deploy, from the world as it is.
    pub(super) fn take_back(&mut self, op: &mut Op, why: Failure) -> Result<End, Halt> {
        self.flush(op)?;
        let policy = self.policy.clone();
        let environment = op.rows.environment.clone();
        let cx = self.planning(&policy, environment.next_number);
        let situation = self.world.situation(&environment, self.store.live(&environment));
        let left = made_by(&op.plan).unwrap();
        let planned = match &op.plan.from {
            None => {
                let words = (left, why.trigger, why.evidence.clone(), why.release_is_bad);
                Some(plan_down(&cx, &situation, Some(words)))
            }
            Some(from) => self.way_back_of(op, from).map(|(release, was_stable)| {
                let same = release.id == from.release;
                let untouched = match same {
                    true => untouched_hosts(&op.plan, &op.state, from),
                    false => BTreeSet::new(),
                };
                let wish = RollbackWish {
                    release,
                    was_stable,
                    left: Some(left),
                    reject_left: why.release_is_bad,
                    rollback_type: RollbackType::Automatic,
                    untouched,
                    begun: begun_batches(&op.plan, &op.state, from),
                    trigger: why.trigger,
                    evidence: why.evidence.clone(),
                    services: Vec::new(),
                    seen: Seen::default(),
                };
                plan_rollback(&cx, &situation, &wish).unwrap()
            }),
        };
        let Some(plan) = planned else {
            let step = op.state.current().unwrap_or(0);
            let reason = "the release before it is known bad too".to_owned();
            if op.state.stuck.is_none() {
                self.note(op, EntryKind::Stuck { step, reason: reason.clone() })?;
            }
            self.flush(op)?;
            return Ok(End::Stuck(reason));
        };
        let plan = self.linted(plan)?;
        let ending = Ending::TakenBack { by: plan.operation.clone(), failure: Some(why) };
        self.hand_over(op, plan, &ending)
    }

    /// Ends one operation and begins the next in one commit.
    fn hand_over(&mut self, op: &mut Op, plan: Plan, ending: &Ending) -> Result<End, Halt> {
        self.end(op, ending)?;
        let next = self.opened(plan, Some(op))?;
        self.boundary()?;
        self.store.commit(op);
        self.store.open(&next.plan);
        self.store.commit(&next);
        self.boundary()?;
        self.drive(next)
    }

    fn way_back_of(&self, op: &Op, from: &Live) -> Option<(Arc<Release>, bool)> {
        let row = self.store.deployments.get(&from.number)?;
        let good = |row: &Deployment| {
            let stable = row.status == DeploymentStatus::Stable;
            (Arc::clone(self.world.release(&row.release)), stable)
        };
        if row.rejected { self.last_known_good(&op.plan).map(good) } else { Some(good(row)) }
    }

    fn last_known_good(&self, besides: &Plan) -> Option<&Deployment> {
        let live = self.store.environment.live;
        self.store.deployments.values().rev().find(|row| {
            row.status == DeploymentStatus::Stable
                && !row.rejected
                && Some(row.number) != live
                && besides.release.as_ref() != Some(&row.release)
        })
    }

    /// A new holder: the open operation from its journal.
    fn claim(&mut self) -> Result<Option<Op>, Halt> {
        self.store.epoch += 1;
        self.store.load().transpose().map_err(Halt::Broken)
    }

    /// The next command after a crash, a stuck end or a yield. `Ok(None)`: it has nothing to do here.
    pub fn go_on(&mut self, after: After) -> Result<Option<End>, Halt> {
        let Some(op) = self.claim()? else { return Ok(None) };
        match after {
            After::Recover => self.recover(op).map(Some),
            After::Abort if op.plan.kind == OperationKind::Deploy => self.abort(op).map(Some),
            After::Abort => Ok(None),
            After::Rollback => self.rollback_over(op),
            After::Down => self.down_over(op).map(Some),
            After::Resolve => self.resolve(op).map(Some),
        }
    }

    fn recover(&mut self, mut op: Op) -> Result<End, Halt> {
        let was_stuck = op.state.stuck.is_some();
        self.note(&mut op, EntryKind::Claimed { holder: "bob@host:2".to_owned() })?;
        if was_stuck {
            let request = RequestId::new("rq_retry").unwrap();
            let (kind, by) = (RequestKind::Retry, "bob".to_owned());
            self.note(&mut op, EntryKind::Requested { request, kind, by })?;
        }
        let undecided =
            op.plan.kind == OperationKind::Deploy && op.state.failing.is_none() && !was_stuck;
        let acted = self
            .acted()
            .filter(|_| op.plan.kind == OperationKind::Deploy && op.state.failing.is_none());
        let back = if acted.is_none() && undecided { self.why_back(&op) } else { acted };
        if let Some(failure) = back {
            self.note(&mut op, EntryKind::Failing { failure })?;
        }
        self.flush(&op)?;
        self.drive(op)
    }

    fn why_back(&self, op: &Op) -> Option<Failure> {
        let back = |words: &str, moved| Some(failure(Trigger::Timeout, words, false, moved));
        let finished = |wanted: fn(&WatchMode) -> bool| {
            op.plan.steps.iter().zip(&op.state.steps).any(|(step, state)| {
                matches!(&step.action, Action::Watch { mode, .. } if wanted(mode))
                    && state.is_finished()
            })
        };
        if !finished(|mode| matches!(mode, WatchMode::Ready { .. })) {
            return back("interrupted before the new side was proven ready", false);
        }
        if finished(|mode| matches!(mode, WatchMode::Bake { .. })) {
            return None;
        }
        match self.require_healthy(op, op.plan.slot) {
            Ok(()) => None,
            Err((_, why)) => back(&why, false),
        }
    }

    fn abort(&mut self, mut op: Op) -> Result<End, Halt> {
        self.note(&mut op, EntryKind::Claimed { holder: "bob@host:2".to_owned() })?;
        let aborted = failure(Trigger::Manual, "aborted by bob", false, false);
        let failure = self.acted().unwrap_or(aborted);
        self.note(&mut op, EntryKind::Failing { failure })?;
        self.flush(&op)?;
        self.drive(op)
    }

    fn resolve(&mut self, mut op: Op) -> Result<End, Halt> {
        let (reason, by) = ("seen to by hand".to_owned(), "bob".to_owned());
        let ending = Ending::Resolved { reason, by };
        self.end(&mut op, &ending)?;
        self.flush(&op)?;
        Ok(End::Over(ending))
    }

    /// A trip that nobody had heard of is a verdict on what is left, whoever takes it over.
    fn adopt_trip(&mut self, op: &mut Op) -> Result<(), Halt> {
        let undecided = op.plan.can_be_taken_back() && op.state.failing.is_none();
        match self.acted().filter(|failure| undecided && failure.release_is_bad) {
            Some(failure) => self.note(op, EntryKind::Failing { failure }),
            None => Ok(()),
        }
    }

    fn rollback_over(&mut self, mut op: Op) -> Result<Option<End>, Halt> {
        self.adopt_trip(&mut op)?;
        let target = match op.plan.kind {
            OperationKind::Deploy => {
                op.plan.from.clone().and_then(|from| self.way_back_of(&op, &from))
            }
            OperationKind::Rollback => {
                let release = op.plan.release.clone().unwrap();
                Some((Arc::clone(self.world.release(&release)), op.plan.target_was_stable))
            }
            OperationKind::Adopt
            | OperationKind::Down
            | OperationKind::Drill
            | OperationKind::Eject => None,
        };
        let Some((release, was_stable)) = target else { return Ok(None) };
        let left = match op.plan.kind {
            OperationKind::Deploy => made_by(&op.plan),
            _ => op.plan.left.clone().or_else(|| self.store.live(&self.store.environment)),
        };
        let reject_left = op.state.failing.as_ref().is_some_and(|f| f.release_is_bad);
        let plan = self.rollback_plan(
            &op.rows.environment.clone(),
            release,
            was_stable,
            left,
            reject_left,
        )?;
        let failure = op.state.failing.clone();
        let ending = Ending::TakenBack { by: plan.operation.clone(), failure };
        self.hand_over(&mut op, plan, &ending).map(Some)
    }

    fn rollback_plan(
        &mut self,
        environment: &backout_core::model::EnvironmentRecord,
        release: Arc<Release>,
        was_stable: bool,
        left: Option<Live>,
        reject_left: bool,
    ) -> Result<Plan, Halt> {
        let policy = self.policy.clone();
        let cx = self.planning(&policy, environment.next_number);
        let situation = self.world.situation(environment, self.store.live(environment));
        let wish = RollbackWish {
            release,
            was_stable,
            left,
            reject_left,
            rollback_type: RollbackType::Previous,
            untouched: BTreeSet::new(),
            begun: BTreeMap::new(),
            trigger: Trigger::Manual,
            evidence: Vec::new(),
            services: Vec::new(),
            seen: Seen::default(),
        };
        self.linted(plan_rollback(&cx, &situation, &wish).unwrap())
    }

    /// A person's bare `rollback`, with nothing else going on.
    pub fn rollback(&mut self) -> Result<End, Halt> {
        let live = self.store.environment.live;
        let good = self.store.deployments.values().rev().find(|row| {
            row.status == DeploymentStatus::Stable && !row.rejected && Some(row.number) != live
        });
        let number = good.map(|row| row.number).ok_or(Halt::Broken("no known good".to_owned()))?;
        self.rollback_to(number)
    }

    /// A person's `rollback` of what is live to a deployment, with nothing else going on.
    pub fn rollback_to(&mut self, number: u64) -> Result<End, Halt> {
        self.store.epoch += 1;
        let environment = self.store.environment.clone();
        let row = self.store.deployments[&number].clone();
        let live = self.store.live(&environment);
        let again = live.as_ref().is_some_and(|live| live.number == number);
        let release = Arc::clone(self.world.release(&row.release));
        let left = live.filter(|_| !again);
        let stable = row.stable_at.is_some();
        let plan = self.rollback_plan(&environment, release, stable, left, !again)?;
        self.begin(plan)
    }

    fn down_over(&mut self, mut op: Op) -> Result<End, Halt> {
        self.adopt_trip(&mut op)?;
        let policy = self.policy.clone();
        let environment = op.rows.environment.clone();
        let cx = self.planning(&policy, environment.next_number);
        let situation = self.world.situation(&environment, self.store.live(&environment));
        let failure = op.state.failing.clone();
        let bad = failure.as_ref().is_some_and(|f| f.release_is_bad);
        let left = Some(&op.plan).filter(|plan| plan.can_be_taken_back()).and_then(made_by);
        let words = left.map(|left| (left, Trigger::Manual, vec!["stopped".to_owned()], bad));
        let plan = self.linted(plan_down(&cx, &situation, words))?;
        let ending = Ending::TakenBack { by: plan.operation.clone(), failure };
        self.hand_over(&mut op, plan, &ending)
    }

    /// `down`, with nothing else going on.
    pub fn down(&mut self) -> Result<End, Halt> {
        self.store.epoch += 1;
        let policy = self.policy.clone();
        let environment = self.store.environment.clone();
        let cx = self.planning(&policy, environment.next_number);
        let situation = self.world.situation(&environment, self.store.live(&environment));
        let plan = self.linted(plan_down(&cx, &situation, None))?;
        self.begin(plan)
    }

    /// A newer deploy takes a baking one's place.
    pub fn supersede(&mut self, version: &str) -> Result<End, Halt> {
        let Some(mut op) = self.claim()? else { return self.deploy(version) };
        let plan = self.deploy_plan(version, Some(&op))?;
        let ending = Ending::Superseded { by: plan.operation.clone() };
        self.hand_over(&mut op, plan, &ending)
    }

    /// The row of a live deployment, as planners name it.
    pub fn live_row(&self) -> Option<Live> {
        self.store.deployments.get(&self.store.environment.live?).map(as_live)
    }
}
