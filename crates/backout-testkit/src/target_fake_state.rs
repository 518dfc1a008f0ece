//! What the fake target remembers, and its rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use backout_core::ids::{LedgerId, ReleaseId, Unit};
use backout_core::model::{EnvValue, Release, TargetSpec};
use backout_core::ports::{
    AdapterError, Capabilities, Exit, GuardState, HostGuard, Marker, Observed, Receipt, Running,
    StepCx, TargetAction,
};
use jiff::Timestamp;

use crate::target_fake::TargetCall;

pub(crate) struct State {
    pub capabilities: Capabilities,
    pub ledger: LedgerId,
    pub units: BTreeMap<Unit, Observed>,
    pub busy: BTreeSet<Unit>,
    pub calls: Vec<TargetCall>,
    pub violations: Vec<String>,
    pub epoch: u64,
    /// What was asked under a step id: it must be the same when it comes again.
    pub steps: BTreeMap<String, String>,
    /// Releases that exit at once with this code until given up.
    pub failing: BTreeMap<ReleaseId, i32>,
    pub obstacles: BTreeMap<Unit, Vec<String>>,
    pub next_pid: u32,
    pub most_at_once: usize,
    /// Units that were prepared, in order.
    pub prepared: Vec<Unit>,
    /// What runs again once the host has taken the guarded change of a unit back.
    pub back_to: BTreeMap<Unit, Option<Arc<Release>>>,
}

impl State {
    pub(crate) fn new(ledger: LedgerId) -> Self {
        Self {
            capabilities: Capabilities {
                side_by_side: true,
                replaces_in_place: false,
                addressable: true,
                sees_foreign: false,
            },
            ledger,
            units: BTreeMap::new(),
            busy: BTreeSet::new(),
            calls: Vec::new(),
            violations: Vec::new(),
            epoch: 0,
            steps: BTreeMap::new(),
            failing: BTreeMap::new(),
            obstacles: BTreeMap::new(),
            next_pid: 1000,
            most_at_once: 0,
            prepared: Vec::new(),
            back_to: BTreeMap::new(),
        }
    }

    /// A call that a correct caller never makes.
    pub(crate) fn violation(&mut self, what: String) -> AdapterError {
        self.violations.push(what.clone());
        AdapterError::permanent(format!("failed by the rules of the fake: {what}"))
    }

    /// Checks that hold before any effect, also one that will fail.
    pub(crate) fn admit(&mut self, action: &TargetAction, cx: &StepCx) -> Result<(), AdapterError> {
        let call = TargetCall::new(action, cx);
        let unit = call.unit.clone();
        self.calls.push(call.clone());
        if self.busy.contains(&unit) {
            return Err(self.violation(format!("two effects at a time on {unit}")));
        }
        if cx.epoch < self.epoch {
            return Err(
                self.violation(format!("epoch {} after {} on {unit}", cx.epoch, self.epoch))
            );
        }
        self.epoch = cx.epoch;
        if cx.attempt == 0 {
            return Err(self.violation(format!("attempt 0 on {unit}: attempts count from 1")));
        }
        let what = call.meaning();
        match self.steps.get(&cx.step_id) {
            Some(before) if *before != what => {
                let message =
                    format!("step `{}` means `{what}` now and meant `{before}`", cx.step_id);
                return Err(self.violation(message));
            }
            _ => {
                self.steps.insert(cx.step_id.clone(), what);
            }
        }
        Ok(())
    }

    pub(crate) fn apply(
        &mut self,
        action: &TargetAction,
        cx: &StepCx,
    ) -> Result<Receipt, AdapterError> {
        match action {
            TargetAction::Start { unit, release, deployment, revert, .. } => {
                if revert.is_some() && unit.host.is_local() {
                    return Err(self.violation(format!("a guard of {unit}, on this machine")));
                }
                let receipt = self.start(unit, release, *deployment, cx)?;
                self.back_to.remove(unit);
                if let Some(now) = self.units.get_mut(unit) {
                    let state = GuardState::Armed;
                    now.guard =
                        revert.as_ref().map(|_| HostGuard { deployment: *deployment, state });
                }
                if let Some(revert) = revert {
                    self.back_to.insert(unit.clone(), revert.back_to.clone());
                }
                Ok(receipt)
            }
            TargetAction::Confirm { unit, deployment, .. } => self.confirm(unit, *deployment),
            TargetAction::Stop { unit, release, .. } => self.stop(unit, release),
        }
    }

    fn start(
        &mut self,
        unit: &Unit,
        release: &Release,
        deployment: u64,
        cx: &StepCx,
    ) -> Result<Receipt, AdapterError> {
        let Some(service) = release.content.services.get(&unit.service) else {
            return Err(self.violation(format!("release {} has no service for {unit}", release.id)));
        };
        if let TargetSpec::Process(spec) = &service.target {
            let mut secrets = spec
                .env
                .iter()
                .filter(|(_, value)| **value == EnvValue::Secret)
                .map(|(name, _)| name);
            if let Some(name) = secrets.find(|name| !cx.secrets.contains_key(*name)) {
                return Err(AdapterError::permanent(format!(
                    "failed to start {unit}: the secret `{name}` has no value"
                )));
            }
        }
        if let Some(now) = self.units.get(unit).filter(|now| now.running == Running::Yes) {
            let same =
                now.release.as_ref() == Some(&release.id) && now.deployment == Some(deployment);
            if same {
                return Ok(Receipt { message: "runs already".to_owned(), ..Receipt::default() });
            }
            if !self.capabilities.replaces_in_place {
                let message =
                    format!("start of deployment {deployment} in {unit} where another runs");
                return Err(self.violation(message));
            }
        }
        let beside = Unit { slot: unit.slot.other(), ..unit.clone() };
        if !self.capabilities.side_by_side
            && self.units.get(&beside).is_some_and(|u| u.running == Running::Yes)
        {
            return Err(self.violation(format!("start in {unit} beside {beside}")));
        }
        self.next_pid += 1;
        let port = 40_000 + u16::try_from(self.next_pid % 20_000).unwrap_or_default();
        let mut now = Observed {
            running: Running::Yes,
            version: Some(release.content.version.clone()),
            release: Some(release.id.clone()),
            deployment: Some(deployment),
            address: self
                .capabilities
                .addressable
                .then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            pid: Some(self.next_pid),
            marker: Some(Marker { ledger: self.ledger.clone() }),
            ..Observed::nothing()
        };
        if let Some(code) = self.failing.get(&release.id) {
            now = Observed {
                running: Running::No,
                pid: None,
                restarts: 5,
                gave_up: true,
                last_exit: Some(Exit {
                    code: Some(*code),
                    signal: None,
                    at: Timestamp::UNIX_EPOCH,
                }),
                ..now
            };
        }
        self.units.insert(unit.clone(), now);
        Ok(Receipt { message: format!("started {unit}"), ..Receipt::default() })
    }

    fn confirm(&mut self, unit: &Unit, deployment: u64) -> Result<Receipt, AdapterError> {
        let now = self.units.get_mut(unit).and_then(|now| now.guard.as_mut());
        let Some(guard) = now.filter(|guard| guard.deployment == deployment) else {
            return Err(self.violation(format!("a confirmation of {unit} that nobody waits for")));
        };
        if let GuardState::Reverted(at) = guard.state {
            return Err(AdapterError::permanent(format!(
                "failed to confirm {unit}: {} took it back at {at}",
                unit.host
            )));
        }
        guard.state = GuardState::Confirmed;
        Ok(Receipt { message: format!("confirmed {unit}"), ..Receipt::default() })
    }

    pub(crate) fn take_back(&mut self, unit: &Unit, at: Timestamp) -> bool {
        let Some(now) = self.units.get_mut(unit) else { return false };
        let Some(guard) = now.guard.clone().filter(|guard| guard.state == GuardState::Armed) else {
            return false;
        };
        let guard = HostGuard { state: GuardState::Reverted(at), ..guard };
        *now = match self.back_to.remove(unit).flatten() {
            Some(release) => Observed {
                version: Some(release.content.version.clone()),
                release: Some(release.id.clone()),
                guard: Some(guard),
                ..now.clone()
            },
            None => Observed { guard: Some(guard), ..Observed::nothing() },
        };
        true
    }

    fn stop(&mut self, unit: &Unit, release: &Release) -> Result<Receipt, AdapterError> {
        let other = self
            .units
            .get(unit)
            .filter(|now| now.running == Running::Yes)
            .and_then(|now| now.release.clone())
            .filter(|running| *running != release.id);
        if let Some(running) = other {
            return Err(
                self.violation(format!("stop of {} in {unit} where {running} runs", release.id))
            );
        }
        self.units.remove(unit);
        Ok(Receipt { message: format!("stopped {unit}"), ..Receipt::default() })
    }
}
