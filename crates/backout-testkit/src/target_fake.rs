//! A target in memory that is stricter than the real ones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use backout_core::ids::{LedgerId, ReleaseId, Unit, Version};
use backout_core::model::Release;
use backout_core::ports::{
    AdapterError, Capabilities, Exit, Observed, Receipt, Running, StepCx, Target, TargetAction,
};
use jiff::Timestamp;

use crate::faults::FaultPlan;
use crate::target_fake_state::State;

/// A call that reached the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetCall {
    /// `start`, `confirm` or `stop`.
    pub verb: &'static str,
    /// Where.
    pub unit: Unit,
    /// What.
    pub version: Version,
    /// What, exactly.
    pub release: ReleaseId,
    /// For starts.
    pub deployment: Option<u64>,
    /// For starts: going back.
    pub restore: bool,
    /// Its idempotency key.
    pub step_id: String,
    /// Which try.
    pub attempt: u32,
    /// The caller's epoch.
    pub epoch: u64,
}

impl TargetCall {
    pub(crate) fn new(action: &TargetAction, cx: &StepCx) -> Self {
        let (verb, unit, release, deployment, restore) = match action {
            TargetAction::Start { unit, release, deployment, restore, .. } => {
                ("start", unit, release, Some(*deployment), *restore)
            }
            TargetAction::Confirm { unit, release, deployment } => {
                ("confirm", unit, release, Some(*deployment), false)
            }
            TargetAction::Stop { unit, release, .. } => ("stop", unit, release, None, false),
        };
        Self {
            verb,
            unit: unit.clone(),
            version: release.content.version.clone(),
            release: release.id.clone(),
            deployment,
            restore,
            step_id: cx.step_id.clone(),
            attempt: cx.attempt,
            epoch: cx.epoch,
        }
    }

    /// What a step id stands for.
    pub(crate) fn meaning(&self) -> String {
        format!("{} {} {} {:?}", self.verb, self.unit, self.release, self.deployment)
    }
}

/// Starts and stops nothing, and keeps a book of it. Clones share one book.
///
/// Two effects at a time on one unit, a start where another release runs, a start beside another where that
/// is not possible, an older epoch, and a step id with another meaning are *violations*: the call fails, and
/// [`FakeTarget::assert_clean`] panics. Faults are named `start`, `confirm`, `stop`, `observe`
/// and `obstacles`.
#[derive(Clone)]
pub struct FakeTarget {
    state: Arc<Mutex<State>>,
    faults: FaultPlan,
}

impl FakeTarget {
    /// Like a supervised process: side by side, with addresses.
    #[must_use]
    pub fn new(ledger: LedgerId) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(ledger))), faults: FaultPlan::new() }
    }

    /// With other capabilities.
    #[must_use]
    pub fn with_capabilities(self, capabilities: Capabilities) -> Self {
        self.state().capabilities = capabilities;
        self
    }

    /// The planned faults.
    #[must_use]
    pub fn faults(&self) -> &FaultPlan {
        &self.faults
    }

    /// All effects that were asked for, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<TargetCall> {
        self.state().calls.clone()
    }

    /// Units that were prepared, in order.
    #[must_use]
    pub fn prepared(&self) -> Vec<Unit> {
        self.state().prepared.clone()
    }

    /// Effects as short texts: `start web@local#a v2`.
    #[must_use]
    pub fn story(&self) -> Vec<String> {
        self.calls()
            .iter()
            .map(|call| format!("{} {} {}", call.verb, call.unit, call.version))
            .collect()
    }

    /// Version and deployment that run in a unit.
    #[must_use]
    pub fn running(&self, unit: &Unit) -> Option<(Version, u64)> {
        let state = self.state();
        let now = state.units.get(unit).filter(|now| now.running == Running::Yes)?;
        Some((now.version.clone()?, now.deployment?))
    }

    /// Units in which something runs.
    #[must_use]
    pub fn running_units(&self) -> Vec<Unit> {
        self.state()
            .units
            .iter()
            .filter(|(_, now)| now.running == Running::Yes)
            .map(|(u, _)| u.clone())
            .collect()
    }

    /// Starts of this release end at once with this exit code, until given up.
    pub fn exits_at_once(&self, release: &ReleaseId, code: i32) {
        self.state().failing.insert(release.clone(), code);
    }

    /// Changes what is observed of a unit, as the world may.
    pub fn change(&self, unit: &Unit, change: impl FnOnce(&mut Observed)) {
        change(self.state().units.entry(unit.clone()).or_insert_with(Observed::nothing));
    }

    /// The program of a unit ends; with `restarted` its supervisor has started it again.
    pub fn crash(&self, unit: &Unit, exit: Exit, restarted: bool) {
        self.change(unit, |now| {
            now.last_exit = Some(exit);
            if restarted {
                now.restarts += 1;
            } else {
                now.running = Running::No;
                now.gave_up = true;
                now.pid = None;
            }
        });
    }

    /// The machine was started again: nothing runs.
    pub fn reboot(&self) {
        self.state().units.clear();
    }

    /// The host of a unit takes its guarded change back, as it does when no confirmation comes. False: nothing was armed.
    pub fn take_back(&self, unit: &Unit, at: Timestamp) -> bool {
        self.state().take_back(unit, at)
    }

    /// The most effects that were under way at the same time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.state().most_at_once
    }

    /// Something outside of Backout stands in the way.
    pub fn put_in_the_way(&self, unit: &Unit, what: &str) {
        self.state().obstacles.entry(unit.clone()).or_default().push(what.to_owned());
    }

    /// Calls that a correct caller never makes.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// # Panics
    /// If there was a violation.
    pub fn assert_clean(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "the target was used against its rules: {violations:#?}");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks a unit as busy; also a dropped call ends that.
struct Busy<'a> {
    target: &'a FakeTarget,
    unit: Unit,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.target.state().busy.remove(&self.unit);
    }
}

#[async_trait]
impl Target for FakeTarget {
    fn capabilities(&self) -> Capabilities {
        self.state().capabilities
    }

    async fn observe(
        &self,
        unit: &Unit,
        _release: Option<&Release>,
    ) -> Result<Observed, AdapterError> {
        if let Some(fault) = self.faults.next("observe", false) {
            return Err(fault.answer("observe").await);
        }
        Ok(self.state().units.get(unit).cloned().unwrap_or_else(Observed::nothing))
    }

    async fn prepare(
        &self,
        unit: &Unit,
        _release: &Release,
        _cx: &StepCx,
    ) -> Result<(), AdapterError> {
        if let Some(fault) = self.faults.next("prepare", false) {
            return Err(fault.answer("prepare").await);
        }
        self.state().prepared.push(unit.clone());
        Ok(())
    }

    async fn apply(&self, action: &TargetAction, cx: &StepCx) -> Result<Receipt, AdapterError> {
        let (verb, unit) = match action {
            TargetAction::Start { unit, .. } => ("start", unit.clone()),
            TargetAction::Confirm { unit, .. } => ("confirm", unit.clone()),
            TargetAction::Stop { unit, .. } => ("stop", unit.clone()),
        };
        let busy = {
            let mut state = self.state();
            state.admit(action, cx)?;
            state.busy.insert(unit.clone());
            state.most_at_once = state.most_at_once.max(state.busy.len());
            Busy { target: self, unit }
        };
        // Room for a second caller to be caught.
        tokio::task::yield_now().await;
        let result = match self.faults.next(verb, true) {
            Some(fault) => {
                if fault.has_effect() {
                    self.state().apply(action, cx)?;
                }
                Err(fault.answer(verb).await)
            }
            None => self.state().apply(action, cx),
        };
        drop(busy);
        result
    }

    async fn obstacles(
        &self,
        unit: &Unit,
        _release: &Release,
    ) -> Result<Vec<String>, AdapterError> {
        if let Some(fault) = self.faults.next("obstacles", false) {
            return Err(fault.answer("obstacles").await);
        }
        Ok(self.state().obstacles.get(unit).cloned().unwrap_or_default())
    }
}
