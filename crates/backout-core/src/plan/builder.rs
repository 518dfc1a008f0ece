//! Builds steps with keys, words and limits in one place.

use super::situation::{PlanContext, Side, Situation};
use super::step::{Action, Nature, Phase, RevertStep, Step, TrafficStep, WatchMode};
use crate::ids::{HostName, ServiceName, Slot};
use crate::model::{Release, ReplicaBatch, RouterPolicy, Service, TargetSpec};

/// Tries of an effect before its step counts as failed.
const EFFECT_ATTEMPTS: u32 = 4;
/// A watch has no effect, so it may be begun more often.
const WATCH_ATTEMPTS: u32 = 12;
/// Beyond the adapter's own limit, milliseconds.
const MARGIN_MS: u64 = 10_000;
/// A large release takes its time over a slow link.
const SEND_MS: u64 = 3_600_000;

/// Collects the steps of a plan.
pub(super) struct Builder<'a> {
    cx: &'a PlanContext<'a>,
    nature: Nature,
    /// The hosts that are worked on.
    hosts: Vec<HostName>,
    /// Number for the next steps that are done together.
    waves: u32,
    /// The number that steps get which are pushed now.
    wave: Option<u32>,
    pub(super) steps: Vec<Step>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(cx: &'a PlanContext<'a>, nature: Nature) -> Self {
        let hosts = cx.policy.hosts.names.clone();
        Self { cx, nature, hosts, waves: 0, wave: None, steps: Vec::new() }
    }

    /// The same step for each host, all at the same time.
    pub(super) fn on_each(
        &mut self,
        hosts: &[HostName],
        mut push: impl FnMut(&mut Self, &HostName),
    ) {
        if hosts.len() > 1 {
            self.waves += 1;
            self.wave = Some(self.waves);
        }
        for host in hosts {
            push(self, host);
        }
        self.wave = None;
    }

    /// What failure of the steps from here on means.
    pub(super) fn nature(&mut self, nature: Nature) {
        self.nature = nature;
    }

    #[allow(clippy::too_many_arguments)] // one caller per kind of step, all in this file
    fn push(
        &mut self,
        name: &str,
        who: &str,
        phase: Phase,
        (before, after): (String, String),
        action: Action,
        compensation: Option<Action>,
        timeout_ms: u64,
    ) {
        let is_watch = matches!(action, Action::Watch { .. });
        let subject = if who == "-" { self.cx.key.to_string() } else { who.to_owned() };
        self.steps.push(Step {
            key: format!("{:02}-{name}/{who}", self.steps.len()),
            name: name.to_owned(),
            phase,
            subject,
            before,
            after,
            action,
            compensation,
            nature: self.nature,
            timeout_ms,
            max_attempts: if is_watch { WATCH_ATTEMPTS } else { EFFECT_ATTEMPTS },
            wave: self.wave,
        });
    }

    fn stop_timeout_ms(&self, service: Option<&Service>) -> u64 {
        let call_ms = service.and_then(|service| service.target.call_limit_ms());
        let grace_ms = self.cx.policy.shutdown.grace_ms + 2 * MARGIN_MS;
        call_ms.map_or(grace_ms, |call_ms| grace_ms.max(call_ms + MARGIN_MS))
    }

    pub(super) fn snapshot(&mut self) {
        let words = ("config on disk".to_owned(), "a copy of it in the ledger".to_owned());
        self.push("snapshot", "-", Phase::Config, words, Action::Snapshot, None, 6 * MARGIN_MS);
    }

    pub(super) fn pin_artifacts(&mut self, release: &Release) {
        let kept: Vec<&str> =
            release.content.artifacts.iter().filter(|a| a.kept).map(|a| a.path.as_str()).collect();
        if !kept.is_empty() {
            let words = (kept.join(", "), "copied by content, kept for the way back".to_owned());
            let action = Action::PinArtifacts { release: release.id.clone() };
            let is_sent = self.hosts.iter().any(|host| !host.is_local());
            let limit_ms = if is_sent { SEND_MS } else { 60 * MARGIN_MS };
            self.push("pin_artifacts", "-", Phase::Code, words, action, None, limit_ms);
        }
    }

    pub(super) fn ensure_router(&mut self) {
        if let RouterPolicy::Builtin { listen, .. } = self.cx.policy.router {
            let words = ("proxy absent or running".to_owned(), format!("proxy runs, for {listen}"));
            self.push(
                "ensure_router",
                "-",
                Phase::Start,
                words,
                Action::EnsureRouter,
                None,
                2 * MARGIN_MS,
            );
        }
    }

    pub(super) fn start(
        &mut self,
        service: &Service,
        release: &Release,
        deployment: u64,
        slot: Slot,
        restore: bool,
    ) {
        let hosts = self.hosts.clone();
        self.on_each(&hosts, |b, host| {
            b.start_on(service, host, (release, deployment, slot, restore), None);
        });
    }

    /// Starts it on one host, which goes back by itself after a time if that is wanted.
    pub(super) fn start_on(
        &mut self,
        service: &Service,
        host: &HostName,
        (release, deployment, slot, restore): (&Release, u64, Slot, bool),
        revert: Option<RevertStep>,
    ) {
        let armed = revert.as_ref().map(|revert| {
            format!(", which {host} takes back after {} s by itself", revert.within_ms / 1000)
        });
        let words = (
            format!("slot {slot} of {} empty or older", service.name),
            format!(
                "{} {} runs in slot {slot}{}",
                service.name,
                release.content.version,
                armed.unwrap_or_default()
            ),
        );
        let action = Action::Start {
            service: service.name.clone(),
            host: host.clone(),
            slot,
            release: release.id.clone(),
            deployment,
            restore,
            revert,
            batch: None,
        };
        let undo = Action::Stop {
            service: service.name.clone(),
            host: host.clone(),
            slot,
            release: release.id.clone(),
        };
        let who = format!("{}@{host}", service.name);
        self.push(
            "start",
            &who,
            Phase::Start,
            words,
            action,
            Some(undo),
            start_timeout_ms(service, host),
        );
    }

    /// Replaces some of its instances, `of` in the end; the others go on.
    pub(super) fn start_some(
        &mut self,
        service: &Service,
        host: &HostName,
        (release, deployment, slot, restore): (&Release, u64, Slot, bool),
        (batch, of): (ReplicaBatch, u32),
    ) {
        self.start_on(service, host, (release, deployment, slot, restore), None);
        let grace_ms = self.stop_timeout_ms(Some(service));
        let Some(step) = self.steps.last_mut() else { return };
        if let Action::Start { batch: part, .. } = &mut step.action {
            *part = Some(batch);
        }
        let (name, version) = (&service.name, &release.content.version);
        (step.before, step.after) = match of {
            1 => (
                format!("another {name} runs"),
                format!("{name} {version} runs; the other ends once it is ready"),
            ),
            _ => (
                format!("fewer than {} of {of} of {name} run {version}", batch.upto),
                format!("{name} {version} runs {} of {of} times", batch.upto),
            ),
        };
        step.timeout_ms += batch.ready_ms + grace_ms;
    }

    /// Leaves time before the next batch.
    pub(super) fn pause(&mut self, slot: Slot, host: &HostName, pause_ms: u64) {
        // Named, the host has this pause watched apart from what proves the whole.
        let hosts = [host.clone()];
        self.watch_hosts("pause", WatchMode::Pause { pause_ms }, (slot, None), &hosts);
        if let Some(step) = self.steps.last_mut() {
            step.before = "a batch is ready".to_owned();
        }
    }

    pub(super) fn confirm_on(
        &mut self,
        service: &Service,
        host: &HostName,
        words: (String, String),
        action: Action,
    ) {
        let who = format!("{}@{host}", service.name);
        self.push("confirm", &who, Phase::Start, words, action, None, 3 * MARGIN_MS);
    }

    /// Stops one service of a side; its undo is a start of the same release in the same slot.
    pub(super) fn stop(&mut self, name: &ServiceName, side: &Side, slot: Slot) {
        let hosts: Vec<HostName> = side.hosts_of(name).into_iter().collect();
        self.on_each(&hosts, |b, host| b.stop_on(name, side, slot, host));
    }

    /// Stops services of a side on hosts that are not among those that are worked on any more.
    pub(super) fn leave_other_hosts(
        &mut self,
        side: &Side,
        slot: Slot,
        only: impl Fn(&ServiceName) -> bool,
    ) {
        let stay = self.hosts.clone();
        for name in side.release.content.start_order().iter().rev().filter(|name| only(name)) {
            let left: Vec<HostName> =
                side.hosts_of(name).into_iter().filter(|host| !stay.contains(host)).collect();
            self.on_each(&left, |b, host| b.stop_on(name, side, slot, host));
        }
    }

    fn stop_on(&mut self, name: &ServiceName, side: &Side, slot: Slot, host: &HostName) {
        let service = side.release.content.services.get(name);
        let version = &side.release.content.version;
        let words = (
            format!("{name} {version} may run in slot {slot}"),
            format!("slot {slot} of {name} is empty"),
        );
        let action = Action::Stop {
            service: name.clone(),
            host: host.clone(),
            slot,
            release: side.release.id.clone(),
        };
        let undo = Action::Start {
            service: name.clone(),
            host: host.clone(),
            slot,
            release: side.release.id.clone(),
            deployment: side.deployment,
            restore: true,
            revert: None,
            batch: None,
        };
        let timeout_ms = self.stop_timeout_ms(service);
        self.push(
            "stop",
            &format!("{name}@{host}"),
            Phase::Stop,
            words,
            action,
            Some(undo),
            timeout_ms,
        );
    }

    /// Stops all services of a side, the last started first.
    pub(super) fn stop_side(
        &mut self,
        side: &Side,
        slot: Slot,
        only: impl Fn(&ServiceName) -> bool,
    ) {
        let mut order = side.release.content.start_order();
        order.extend(
            side.services
                .iter()
                .filter(|s| !side.release.content.services.contains_key(*s))
                .cloned(),
        );
        for name in order.iter().rev().filter(|name| side.services.contains(*name) && only(name)) {
            self.stop(name, side, slot);
        }
    }

    pub(super) fn drain(&mut self, slot: Slot) {
        let words = (format!("requests in flight on slot {slot}"), "none".to_owned());
        let timeout_ms = self.cx.policy.shutdown.drain_ms + MARGIN_MS;
        self.push("drain", "-", Phase::Stop, words, Action::Drain { slot }, None, timeout_ms);
    }

    pub(super) fn traffic(&mut self, traffic: TrafficStep, undo: Option<TrafficStep>) {
        let share = |t: &TrafficStep| match t.rest {
            Some(rest) => {
                format!("{} % to slot {}, {} % to slot {rest}", t.percent, t.side, 100 - t.percent)
            }
            None => format!("{} % to slot {}", t.percent, t.side),
        };
        let before = undo.as_ref().map_or_else(|| "no traffic".to_owned(), share);
        let timeout_ms = if self.cx.policy.router == RouterPolicy::Script {
            61 * MARGIN_MS
        } else {
            2 * MARGIN_MS
        };
        let armed = if traffic.trip.is_some() { "; the proxy's trip is armed" } else { "" };
        let words = (before, format!("{}{armed}", share(&traffic)));
        let undo = undo.map(Action::SetTraffic);
        self.push(
            "shift_traffic",
            "-",
            Phase::Code,
            words,
            Action::SetTraffic(traffic),
            undo,
            timeout_ms,
        );
    }

    /// Moves what users `slot` still has to `stays`, before `slot` is emptied. Most users are on `stays`
    /// already, and the others would meet nothing at all: so this one move asks for no proof of health.
    pub(super) fn leave_before_stop(&mut self, situation: &Situation, slot: Slot, stays: Slot) {
        if situation.weight(slot) == 0 || !situation.slots.get(&stays).is_some_and(Side::can_serve)
        {
            return;
        }
        let away = TrafficStep {
            side: slot,
            percent: 0,
            rest: Some(stays),
            dead_man: false,
            trip: None,
            gate: false,
            cut: false,
            stage: "0".to_owned(),
        };
        self.traffic(away, None);
    }

    pub(super) fn watch(
        &mut self,
        name: &str,
        mode: WatchMode,
        side: Slot,
        baseline: Option<Slot>,
    ) {
        self.watch_hosts(name, mode, (side, baseline), &[]);
    }

    /// Watches what runs on some hosts only; none named: on all.
    pub(super) fn watch_hosts(
        &mut self,
        name: &str,
        mode: WatchMode,
        (side, baseline): (Slot, Option<Slot>),
        hosts: &[HostName],
    ) {
        let after = match &mode {
            WatchMode::Ready { passes, hold_ms: 0 } => {
                format!("{passes} passing checks in a row at its own address")
            }
            WatchMode::Ready { passes, hold_ms } => {
                format!("{passes} passing checks in a row, and {} s passed", hold_ms / 1000)
            }
            WatchMode::Hold { stage, .. } => {
                format!("healthy at {} % for {} s", stage.weight, stage.hold_ms / 1000)
            }
            WatchMode::Bake { bake_ms, .. } => format!("healthy for {} s at 100 %", bake_ms / 1000),
            WatchMode::Verify { passes, .. } => {
                format!("{passes} passing checks in a row on every service")
            }
            WatchMode::Keep { keep_ms } => format!("old side kept for {} s", keep_ms / 1000),
            WatchMode::Pause { pause_ms } => format!("{} s passed", pause_ms / 1000),
        };
        let phase = if matches!(mode, WatchMode::Hold { .. }) { Phase::Code } else { Phase::Start };
        let start_ms = u64::try_from(self.cx.policy.judge.startup_timeout_ms).unwrap_or(60_000);
        let words = (format!("slot {side} not proven"), after);
        let who = match hosts {
            [] => "-".to_owned(),
            [one] => one.to_string(),
            [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        };
        let action = Action::Watch { mode, side, baseline, hosts: hosts.to_vec() };
        self.push(name, &who, phase, words, action, None, start_ms + 6 * MARGIN_MS);
    }

    pub(super) fn restore_config(&mut self, release: &Release) {
        if release.content.config.is_empty() {
            return;
        }
        let words = (
            "config files as they are on disk".to_owned(),
            format!("{} config files of {}", release.content.config.len(), release.content.version),
        );
        let action = Action::RestoreConfig { release: release.id.clone() };
        self.push("restore_config", "-", Phase::Config, words, action, None, 6 * MARGIN_MS);
    }

    pub(super) fn remove_route(&mut self) {
        let words = (
            "route at the proxy".to_owned(),
            "none; the proxy ends if nothing else uses it".to_owned(),
        );
        self.push(
            "remove_route",
            "-",
            Phase::Stop,
            words,
            Action::RemoveRoute,
            None,
            3 * MARGIN_MS,
        );
    }

    pub(super) fn prune(&mut self) {
        let words =
            ("artifact copies".to_owned(), "only those that a rollback may need".to_owned());
        self.push("prune", "-", Phase::Stop, words, Action::Prune, None, 6 * MARGIN_MS);
    }

    /// Services of `release` in start order.
    pub(super) fn ordered(release: &Release) -> impl Iterator<Item = &Service> {
        release
            .content
            .start_order()
            .into_iter()
            .filter_map(|name| release.content.services.get(&name))
    }
}

fn start_timeout_ms(service: &Service, host: &HostName) -> u64 {
    let limit_ms =
        service.target.call_limit_ms().map_or(3 * MARGIN_MS, |limit_ms| limit_ms + MARGIN_MS);
    // What is missing there is sent before the start, which has a limit of its own.
    let is_sent = !host.is_local() && matches!(service.target, TargetSpec::Systemd(_));
    if is_sent { limit_ms + SEND_MS } else { limit_ms }
}
