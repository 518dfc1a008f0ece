//! The rehearsal of a way back: the checks of the release in its own slot, without traffic, or what can be looked at.

use std::time::Duration;

use backout_core::ids::{Slot, Unit};
use backout_core::model::{
    DrillRecord, Health, OperationKind, ReadinessCheck, Release, Service, Severity,
};
use backout_core::plan::{Action, Step};
use backout_core::ports::{Observed, ProbeSubject, Receipt, Rehearsal, SampleOutcome, StepCx};
use backout_core::saga::{StepPhase, StepState};
use serde_json::json;
use tokio::time::Instant;

use crate::commands::health::judge_check;
use crate::context::{Context, Interrupt};
use crate::faults::boundary;
use crate::journal::Journal;
use crate::readiness::{STARTABLE, way_back_checks};
use crate::situation;

/// Words of a result.
#[derive(Default)]
struct Shown {
    rehearsed: Vec<String>,
    left_out: Vec<String>,
    error: Option<String>,
    restore_ms: Option<u64>,
}

/// Whether the one who began a drill is gone: then nothing is started any more, and what was is stopped.
pub(crate) fn is_only_ended(journal: &Journal) -> bool {
    journal.plan.kind == OperationKind::Drill && journal.holders() > 1
}

/// Rehearses; whatever comes of it is the result.
pub(crate) async fn rehearse(
    cx: &Context,
    journal: &Journal,
    action: &Action,
    step: &StepCx,
) -> Receipt {
    let Action::Rehearse { slot, release: id, deployment, beside } = action else {
        return Receipt::default();
    };
    if is_only_ended(journal) {
        return interrupted();
    }
    let mut shown = Shown::default();
    let release = match situation::release(cx, id).await {
        Ok(release) => release,
        Err(error) => return failed_to_look(&error.to_string()),
    };
    match way_back_checks(cx, &journal.rows.environment, &release).await {
        Ok(checks) => looked(&mut shown, &checks),
        Err(error) => return failed_to_look(&error.to_string()),
    }
    boundary("during_effect", "rehearse");
    if *beside {
        let workers = release.content.services.values().filter(|service| !service.traffic);
        shown.left_out.extend(workers.map(|worker| {
            format!(
                "{} takes no traffic and was not started: its jobs would run twice",
                worker.name
            )
        }));
        shown.error = shown.error.take().or_else(|| not_started(journal));
        if shown.error.is_none() && !watch(cx, journal, &release, *slot, &mut shown).await {
            return interrupted();
        }
    } else {
        look(cx, &release, *slot, &mut shown, step).await;
    }
    let record = DrillRecord {
        operation: journal.plan.operation.clone(),
        deployment: *deployment,
        release: id.clone(),
        version: release.content.version.clone(),
        at: cx.now(),
        passed: shown.error.is_none(),
        beside: *beside,
        restore_ms: shown.restore_ms,
        rehearsed: shown.rehearsed,
        left_out: shown.left_out,
        error: shown.error,
    };
    let message = match (&record.error, record.restore_ms) {
        (Some(why), _) => format!("it would fail: {why}"),
        (None, Some(ms)) => format!("it passed its checks {ms} ms after its start"),
        (None, None) => "what it needs is there".to_owned(),
    };
    Receipt { message, data: json!({ "drill": record }), ..Receipt::default() }
}

fn interrupted() -> Receipt {
    let message = "interrupted: nothing was shown".to_owned();
    Receipt { message, data: json!({ "interrupted": true }), ..Receipt::default() }
}

fn failed_to_look(why: &str) -> Receipt {
    Receipt { warnings: vec![why.to_owned()], ..interrupted() }
}

/// What going back needs, proven as before a deploy.
fn looked(shown: &mut Shown, checks: &[ReadinessCheck]) {
    for check in checks.iter().filter(|check| check.name != STARTABLE) {
        match check.status {
            Severity::Error => {
                let words = format!("{}: {}", check.name, check.message);
                shown.error.get_or_insert(words);
            }
            Severity::Pass | Severity::Warning => {
                shown.rehearsed.push(format!("{}: {}", check.name, check.message));
            }
        }
    }
}

/// What can be rehearsed without touching what runs.
async fn look(cx: &Context, release: &Release, slot: Slot, shown: &mut Shown, step: &StepCx) {
    for service in release.content.services.keys() {
        for unit in situation::units(cx, service, slot) {
            match cx.target.rehearse(&unit, release, step).await {
                Ok(Rehearsal { rehearsed, left_out }) => {
                    shown.rehearsed.extend(rehearsed);
                    shown.left_out.extend(left_out);
                }
                Err(error) => {
                    shown.error.get_or_insert(error.to_string());
                }
            }
        }
    }
    shown.rehearsed.dedup();
    shown.left_out.dedup();
}

/// How one look at a side went.
enum Look {
    Passes,
    Starting(String),
    Fails(String),
    /// Nobody will start it again.
    Over(String),
}

/// Waits for passes in a row, as a way back does. False: it was interrupted.
async fn watch(
    cx: &Context,
    journal: &Journal,
    release: &Release,
    slot: Slot,
    shown: &mut Shown,
) -> bool {
    let judge = &cx.policy.judge;
    let wanted = judge.consecutive_passes.max(1);
    let patience = Duration::from_millis(u64::try_from(judge.startup_timeout_ms).unwrap_or(60_000));
    let end = Instant::now() + patience;
    let (mut passes, mut fails) = (0_u32, 0_u32);
    loop {
        if *cx.interrupt.borrow() != Interrupt::None {
            return false;
        }
        let (look, interval) = look_at(cx, release, slot).await;
        let why = match look {
            Look::Passes => {
                passes += 1;
                fails = 0;
                if passes >= wanted {
                    shown.restore_ms = since_start(cx, journal);
                    shown.rehearsed.push(format!(
                        "{} was started in slot {slot} and passed its checks {wanted} times in a row",
                        release.content.version
                    ));
                    shown.left_out.push("no traffic was moved".to_owned());
                    return true;
                }
                String::new()
            }
            Look::Starting(why) => {
                passes = 0;
                why
            }
            Look::Fails(why) => {
                passes = 0;
                fails += 1;
                if fails >= judge.consecutive_failures.count.max(1) {
                    shown.error = Some(why);
                    return true;
                }
                why
            }
            Look::Over(why) => {
                shown.error = Some(why);
                return true;
            }
        };
        if Instant::now() >= end {
            let why = if why.is_empty() { "too few passes in a row".to_owned() } else { why };
            shown.error = Some(format!("it was not ready within {} s: {why}", patience.as_secs()));
            return true;
        }
        tokio::time::sleep(interval).await;
    }
}

/// A start that failed was left out after its last try; its error says why.
fn not_started(journal: &Journal) -> Option<String> {
    let starts = journal.plan.steps.iter().zip(&journal.state.steps);
    let failed = |(step, state): (&Step, &StepState)| {
        let left_out = state.phase == StepPhase::Skipped;
        let starts = matches!(step.action, Action::Start { .. });
        (starts && left_out).then(|| state.error.clone().unwrap_or_else(|| "no start".to_owned()))
    };
    starts.into_iter().find_map(failed)
}

/// From the first start on; none where the clock was set back meanwhile.
fn since_start(cx: &Context, journal: &Journal) -> Option<u64> {
    let starts = journal.plan.steps.iter().zip(&journal.state.steps);
    let first = starts
        .filter(|(step, _)| matches!(step.action, Action::Start { .. }))
        .filter_map(|(_, state)| state.started_at)
        .min()?;
    u64::try_from(cx.now().as_millisecond() - first.as_millisecond()).ok()
}

/// One look at every service that serves, and how long to wait for the next.
async fn look_at(cx: &Context, release: &Release, slot: Slot) -> (Look, Duration) {
    let mut worst = Look::Passes;
    let mut interval_ms = 1_000;
    for service in release.content.services.values().filter(|service| service.traffic) {
        for unit in situation::units(cx, &service.name, slot) {
            let observed = situation::observe(cx, &unit, Some(release)).await;
            if let Some(over) = is_over(cx, &unit, &observed, release) {
                return (Look::Over(over), Duration::ZERO);
            }
            let (look, every_ms) = probe(cx, release, service, &unit, &observed).await;
            interval_ms = interval_ms.min(every_ms);
            worst = match (worst, look) {
                (Look::Fails(why), _) | (_, Look::Fails(why)) => Look::Fails(why),
                (Look::Starting(why), _) | (_, Look::Starting(why)) => Look::Starting(why),
                (_, look) => look,
            };
        }
    }
    (worst, Duration::from_millis(interval_ms.max(50)))
}

/// Why it will not come any more.
fn is_over(cx: &Context, unit: &Unit, seen: &Observed, release: &Release) -> Option<String> {
    let tail = seen.tail.as_deref().map(last_words).filter(|line| !line.is_empty());
    let tail = tail.map(|line| format!("; it said: {line}")).unwrap_or_default();
    if seen.release.as_ref().is_some_and(|id| *id != release.id) {
        return Some(format!("another release runs as {unit}"));
    }
    if seen.gave_up {
        return Some(format!("{unit} ended too often{tail}"));
    }
    let limit = cx.policy.judge.startup_failures.max(1);
    if seen.restarts >= limit {
        return Some(format!("{unit} ended {} times before it was ready{tail}", seen.restarts));
    }
    None
}

/// What the program itself said last, not what its supervisor noted.
fn last_words(text: &str) -> String {
    let mut own =
        text.lines().filter(|line| !line.starts_with("[backout]") && !line.trim().is_empty());
    own.next_back().unwrap_or_default().to_owned()
}

async fn probe(
    cx: &Context,
    release: &Release,
    service: &Service,
    unit: &Unit,
    observed: &Observed,
) -> (Look, u64) {
    let version = &release.content.version;
    let (mut worst, mut interval_ms) = (Look::Passes, u64::MAX);
    for plan in cx.probes.for_unit(unit, service) {
        // One that sees both sides says nothing of this one.
        if !plan.names_a_side {
            continue;
        }
        interval_ms = interval_ms.min(plan.schedule.rollout_interval_ms);
        let subject = ProbeSubject {
            unit: unit.clone(),
            address: observed.address,
            version: version.clone(),
            release: release.id.clone(),
            timeout: Duration::from_millis(plan.schedule.timeout_ms),
            retries: 0,
        };
        let result = plan.probe.check(&subject).await;
        let starting = match &result {
            Ok(sample) => matches!(sample.outcome, SampleOutcome::NotReady(_)),
            Err(_) => true,
        };
        let thresholds = &cx.policy.judge.thresholds;
        let every_ms = plan.schedule.rollout_interval_ms;
        let (health, why) = judge_check(result, Some(version.as_str()), thresholds, every_ms);
        let why = format!("{} of {}: {why}", plan.probe.name(), service.name);
        match (health, starting) {
            (Health::Healthy | Health::Warning, _) => {}
            (_, true) => worst = Look::Starting(why),
            (_, false) => return (Look::Fails(why), interval_ms),
        }
    }
    (worst, interval_ms)
}
