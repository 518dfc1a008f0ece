//! The watch loop of one step.

use std::collections::BTreeMap;
use std::time::Duration;

use backout_core::model::{Health, LiveHealth, OnNoData, OperationKind, Stage, Trigger};
use backout_core::plan::{Action, WatchMode};
use backout_core::ports::Receipt;
use backout_core::saga::{EntryKind, Failure};
use backout_judge::{Arm, Event as Seen, Level, Verdict};
use tokio::time::Instant;

use super::account::{self, Account};
use super::hours::Usual;
use super::past::{self, Recorder};
use super::router_care::RouterCare;
use super::sampler::{Message, Watcher};
use crate::acted;
use crate::commands::health::judge_check;
use crate::commands::requests::consume_requests;
use crate::context::{Context, Interrupt};
use crate::events::{Event, WatchReading};
use crate::gate;
use crate::journal::{Journal, JournalError};
use crate::keeper::{Held, Keeper};

/// How often the loop looks up when nothing is heard.
const TICK: Duration = Duration::from_millis(50);
/// How often request rows are read.
const REQUESTS_PERIOD: Duration = Duration::from_millis(300);
/// How often progress is told.
const READING_PERIOD: Duration = Duration::from_millis(200);
/// How often health is kept for `status`.
const HEALTH_PERIOD: Duration = Duration::from_secs(1);

/// How a watch ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WatchEnd {
    /// What it waited for was seen.
    Done(Receipt),
    /// The release goes back.
    Failing(Failure),
    /// It will not become what it waited for, and there is no release to take back.
    GaveUp(String),
    /// The holder was asked to yield.
    Yield,
    /// A signal: nothing is changed, nobody watches any more.
    Stopped,
    /// The lease was lost.
    Lost(String),
}

/// What a watch is given.
pub(crate) struct WatchScope<'a> {
    pub cx: &'a Context,
    pub keeper: &'a Keeper,
    /// Index of the step.
    pub step: usize,
    /// Milliseconds that count already, from before a crash.
    pub elapsed_ms: u64,
    /// Since the operation began in this process.
    pub operation_began: Instant,
}

struct Clock {
    counted: Duration,
    last: Instant,
}

impl Clock {
    fn tick(&mut self, paused: bool) -> u64 {
        let now = Instant::now();
        if !paused {
            self.counted += now - self.last;
        }
        self.last = now;
        u64::try_from(self.counted.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Readiness is proven anew this often while somebody watches.
const READINESS_PERIOD: Duration = Duration::from_secs(30);

/// Runs the watch of one step to its end; rollback readiness is kept fresh beside it.
pub(crate) async fn run_watch(
    scope: &WatchScope<'_>,
    journal: &mut Journal,
    watcher: &mut Watcher,
) -> Result<WatchEnd, JournalError> {
    let refresh = async {
        loop {
            crate::readiness::refresh(scope.cx).await;
            tokio::time::sleep(READINESS_PERIOD).await;
        }
    };
    let end = tokio::select! {
        biased;
        end = watch_step(scope, journal, watcher) => end,
        () = refresh => Ok(WatchEnd::Stopped),
    };
    let failure = match &end {
        Ok(WatchEnd::Failing(failure)) if failure.release_is_bad => Some(failure),
        _ => None,
    };
    account::close(scope, journal, watcher, failure);
    end
}

async fn watch_step(
    scope: &WatchScope<'_>,
    journal: &mut Journal,
    watcher: &mut Watcher,
) -> Result<WatchEnd, JournalError> {
    let Action::Watch { mode, .. } = journal.plan.steps[scope.step].action.clone() else {
        return Ok(WatchEnd::Done(Receipt::default()));
    };
    begin(scope.cx, watcher, &mode);
    let before = &journal.plan.steps[..scope.step];
    if before.iter().any(|step| matches!(step.action, Action::SetTraffic(_))) {
        watcher.expect_router();
    }
    assume_weights(scope, journal, watcher);
    let mut clock =
        Clock { counted: Duration::from_millis(scope.elapsed_ms), last: Instant::now() };
    let (mut asked, mut told, mut kept) = (Instant::now(), None::<Instant>, None::<Instant>);
    let mut warned = false;
    let mut router = RouterCare::default();
    let mut recorder = Recorder::default();
    let mut account = Account::default();
    loop {
        take(scope.cx, watcher).await;
        router.look_after(scope, journal, watcher).await?;
        recorder.look_after(scope.cx, watcher).await;
        account.look_after(scope, journal, watcher).await;
        note_sources(scope, journal, watcher).await?;
        if let Held::Lost(why) = scope.keeper.held() {
            return Ok(WatchEnd::Lost(why));
        }
        let now = scope.cx.now();
        let baking = matches!(mode, WatchMode::Bake { .. });
        let (verdict, only_sources) = watcher.verdict(now.as_millisecond(), baking);
        let elapsed_ms = clock.tick(journal.state.paused);
        if let Some(end) = acted(journal, watcher).or_else(|| failing(journal, &mode, &verdict)) {
            return Ok(end);
        }
        if asked.elapsed() >= REQUESTS_PERIOD {
            asked = Instant::now();
            if let Some(end) = asked_to(scope, journal, &mode).await? {
                return Ok(end);
            }
        }
        if let Some(end) = interrupted(scope.cx, journal) {
            return Ok(end);
        }
        if told.is_none_or(|at| at.elapsed() >= READING_PERIOD) {
            told = Some(Instant::now());
            tell(scope, journal, watcher, &mode, elapsed_ms, &verdict);
        }
        if kept.is_none_or(|at| at.elapsed() >= HEALTH_PERIOD) {
            kept = Some(Instant::now());
            keep_health(scope.cx, journal, watcher).await;
        }
        let promoted = journal.state.promoted == Some(scope.step);
        let began = scope.operation_began;
        let progress = Progress { elapsed_ms, promoted, verdict: &verdict, only_sources, began };
        match judge_mode(scope.cx, journal, watcher, &mode, &progress) {
            Step::Go(receipt) => {
                // What was kept last may be from before the checks passed, and nobody looks again.
                keep_health(scope.cx, journal, watcher).await;
                if baking {
                    past::record(scope.cx, watcher, Arm::Canary).await;
                }
                return Ok(WatchEnd::Done(receipt));
            }
            Step::End(end) => return Ok(end),
            Step::Stay(Some(warning)) if !warned => {
                warned = true;
                warn(scope, journal, warning).await?;
            }
            Step::Stay(_) => {}
        }
    }
}

/// What metric sources have to say, once each.
async fn note_sources(
    scope: &WatchScope<'_>,
    journal: &mut Journal,
    watcher: &mut Watcher,
) -> Result<(), JournalError> {
    for message in watcher.figures.notes() {
        warn(scope, journal, message).await?;
    }
    Ok(())
}

/// What people have asked for meanwhile.
async fn asked_to(
    scope: &WatchScope<'_>,
    journal: &mut Journal,
    mode: &WatchMode,
) -> Result<Option<WatchEnd>, JournalError> {
    consume_requests(scope.cx, journal, &scope.keeper.lease, Some(mode)).await?;
    if journal.state.yield_to.is_some() {
        return Ok(Some(WatchEnd::Yield));
    }
    let failing = journal.state.failing.clone().filter(|_| journal.plan.can_be_taken_back());
    Ok(failing.map(WatchEnd::Failing))
}

/// A router that streams no counters does what it was told last.
fn assume_weights(scope: &WatchScope<'_>, journal: &Journal, watcher: &mut Watcher) {
    let before = &journal.plan.steps[..scope.step];
    let told = before.iter().rev().find_map(|step| match &step.action {
        Action::SetTraffic(told) => Some(told),
        _ => None,
    });
    let Some(told) = told.filter(|_| watcher.figures.counts_requests()) else { return };
    let mut weights = BTreeMap::from([(told.side, told.percent)]);
    weights.extend(told.rest.map(|rest| (rest, 100_u8.saturating_sub(told.percent))));
    let at_ms = scope.cx.now().as_millisecond();
    watcher.feed.assume(&mut watcher.judge, at_ms, weights);
}

/// Tells a person, and the record.
async fn warn(
    scope: &WatchScope<'_>,
    journal: &mut Journal,
    message: String,
) -> Result<(), JournalError> {
    scope.cx.events.warn(message.clone());
    let epoch = scope.keeper.lease.epoch;
    journal.note(scope.cx.now(), epoch, EntryKind::Warning { message })?;
    journal.flush(scope.cx.ledger.as_ref(), &scope.keeper.lease).await
}

fn begin(cx: &Context, watcher: &mut Watcher, mode: &WatchMode) {
    let at_ms = cx.now().as_millisecond();
    if matches!(mode, WatchMode::Hold { .. } | WatchMode::Bake { .. }) {
        watcher.begin_judging();
    }
    match mode {
        WatchMode::Hold { .. } => watcher.judge.observe(Seen::StageBegan { at_ms }),
        WatchMode::Bake { .. } => watcher.judge.observe(Seen::BakeBegan { at_ms }),
        WatchMode::Ready { .. }
        | WatchMode::Verify { .. }
        | WatchMode::Keep { .. }
        | WatchMode::Pause { .. } => {}
    }
}

/// Takes what samplers saw: waits for the first, then takes all that is there.
async fn take(cx: &Context, watcher: &mut Watcher) {
    if let Ok(Some(message)) = tokio::time::timeout(TICK, watcher.messages.recv()).await {
        absorb(cx, watcher, message);
        while let Ok(message) = watcher.messages.try_recv() {
            absorb(cx, watcher, message);
        }
    }
}

pub(crate) fn absorb(cx: &Context, watcher: &mut Watcher, message: Message) {
    match message {
        Message::Frame(frame) => {
            watcher.feed.frame(&mut watcher.judge, &frame);
            watcher.fired = frame.fired.clone();
            watcher.tripped = frame.tripped.clone();
            watcher.unbound = frame.unbound.clone();
            watcher.router_gone = false;
        }
        Message::RouterGone => watcher.router_gone = true,
        Message::Figures { at, source, given } => {
            let Watcher { figures, judge, feed, .. } = watcher;
            let around = (&mut feed.hours, feed.split);
            figures.take(judge, around, at.as_millisecond(), source, &given);
        }
        Message::Usual { at, usual } => {
            let usual = usual.or(watcher.feed.hours.usual_before());
            if let Some(Usual { total, failed, .. }) = usual {
                let at_ms = at.as_millisecond();
                watcher.judge.observe(Seen::Reference { at_ms, total, failed });
            }
        }
        Message::Synthetic { at, ok: [Some(canary), baseline] } => {
            let counts = |ok: bool| (u64::from(ok), u64::from(!ok));
            watcher.judge.observe(Seen::Synthetic {
                at_ms: at.as_millisecond(),
                canary: counts(canary),
                baseline: baseline.map(counts),
            });
        }
        Message::Synthetic { .. } => {}
        Message::Observed { arm, unit, observed } => {
            watcher.feed.observed(&mut watcher.judge, cx.now(), arm, &unit, &observed);
        }
        Message::Checked { started_at, arm, check, unit, result } => {
            let slot = unit.slot;
            let Some(side) = watcher.sides.iter().find(|side| side.slot == slot) else { return };
            let expected = side.release.content.version_of(&unit.service).as_str().to_owned();
            let deployment = side.deployment;
            let interval_ms = side
                .release
                .content
                .services
                .get(&unit.service)
                .and_then(|s| {
                    s.health.probes.iter().map(|p| p.schedule().rollout_interval_ms).max()
                })
                .unwrap_or(1_000);
            let limits = &cx.policy.judge.thresholds;
            let (health, _) = judge_check(result.clone(), Some(&expected), limits, interval_ms);
            watcher.remember(arm, &unit, check, health);
            let from = (arm, check, &unit);
            let passed = watcher.feed.checked(
                &mut watcher.judge,
                started_at,
                from,
                &result,
                (&expected, interval_ms),
            );
            if passed && watcher.side_healthy(arm) {
                gate::saw_healthy(&cx.key, slot, deployment);
            } else if !passed {
                gate::saw_unhealthy(&cx.key, slot);
            }
        }
    }
}

/// A trip that fired at the router, or a deadline that ran out there.
fn acted(journal: &Journal, watcher: &Watcher) -> Option<WatchEnd> {
    let (tripped, fired) = (watcher.tripped.as_ref(), watcher.fired.as_ref());
    let failure = acted::failure(tripped, fired).filter(|_| journal.plan.can_be_taken_back())?;
    Some(WatchEnd::Failing(failure))
}

fn failing(journal: &Journal, mode: &WatchMode, verdict: &Verdict) -> Option<WatchEnd> {
    if verdict.level != Level::Failing
        || matches!(
            mode,
            WatchMode::Verify { .. } | WatchMode::Keep { .. } | WatchMode::Pause { .. }
        )
    {
        return None;
    }
    if !journal.plan.can_be_taken_back() {
        return Some(WatchEnd::GaveUp(verdict.evidence.clone()));
    }
    Some(WatchEnd::Failing(Failure {
        trigger: verdict.cause.map_or(Trigger::HealthCheckFailed, Trigger::from),
        evidence: vec![verdict.evidence.clone()],
        release_is_bad: true,
        by_router: false,
    }))
}

fn interrupted(cx: &Context, journal: &Journal) -> Option<WatchEnd> {
    if cx.hands_over(journal.plan.kind) {
        return Some(WatchEnd::Stopped);
    }
    if journal.plan.kind != OperationKind::Deploy {
        return None;
    }
    let live = journal.plan.live_at.is_some_and(|index| journal.state.steps[index].is_finished());
    let aborted = Failure {
        trigger: Trigger::Manual,
        evidence: vec!["aborted by a person or a signal".to_owned()],
        release_is_bad: false,
        by_router: false,
    };
    match *cx.interrupt.borrow() {
        Interrupt::None | Interrupt::HandOver { .. } => None,
        Interrupt::Signal if live => Some(WatchEnd::Stopped),
        Interrupt::Signal | Interrupt::Abort => Some(WatchEnd::Failing(aborted)),
    }
}

struct Progress<'a> {
    elapsed_ms: u64,
    promoted: bool,
    verdict: &'a Verdict,
    /// Nothing is missing but what sources of metrics can't tell: no reason to go back.
    only_sources: bool,
    began: Instant,
}

enum Step {
    Go(Receipt),
    End(WatchEnd),
    Stay(Option<String>),
}

fn go(message: impl Into<String>, warnings: Vec<String>) -> Step {
    Step::Go(Receipt { message: message.into(), warnings, ..Receipt::default() })
}

fn judge_mode(
    cx: &Context,
    journal: &Journal,
    watcher: &Watcher,
    mode: &WatchMode,
    now: &Progress<'_>,
) -> Step {
    let passes = watcher.judge.passes(Arm::Canary).unwrap_or(0);
    // Checks at the side's own address say nothing of users who can't come in.
    let served = if watcher.users_cut_off() { 0 } else { passes };
    match mode {
        WatchMode::Keep { keep_ms } if now.elapsed_ms >= *keep_ms => {
            go("kept long enough", Vec::new())
        }
        WatchMode::Pause { pause_ms } if now.elapsed_ms >= *pause_ms => go("", Vec::new()),
        WatchMode::Keep { .. } | WatchMode::Pause { .. } => Step::Stay(None),
        WatchMode::Ready { passes: wanted, hold_ms } => {
            let limit_ms = journal.plan.steps[journal.state.current().unwrap_or(0)].timeout_ms;
            if passes >= *wanted && now.elapsed_ms < *hold_ms {
                Step::Stay(None)
            } else if passes >= *wanted {
                go(format!("{passes} passing checks in a row"), Vec::new())
            } else if now.elapsed_ms > limit_ms + hold_ms {
                never_ready(journal, now.verdict)
            } else {
                Step::Stay(None)
            }
        }
        WatchMode::Verify { passes: wanted, deadline_ms } => {
            verify(cx, journal, served, (*wanted, *deadline_ms), now)
        }
        WatchMode::Hold { .. } if watcher.users_cut_off() => Step::Stay(None),
        WatchMode::Hold { stage, on_no_data } => hold(watcher, now, stage, *on_no_data),
        WatchMode::Bake { bake_ms, passes: wanted } => {
            bake(journal, served, (*bake_ms, *wanted), now)
        }
    }
}

fn never_ready(journal: &Journal, verdict: &Verdict) -> Step {
    let why = format!("it did not become ready in time: {}", verdict.evidence);
    Step::End(if journal.plan.can_be_taken_back() {
        WatchEnd::Failing(Failure {
            trigger: Trigger::StartupFailure,
            evidence: vec![why],
            release_is_bad: true,
            by_router: false,
        })
    } else {
        WatchEnd::GaveUp(why)
    })
}

fn hold(watcher: &Watcher, now: &Progress<'_>, stage: &Stage, on_no_data: OnNoData) -> Step {
    if now.promoted {
        return go("promoted by request", Vec::new());
    }
    let early = now.elapsed_ms >= stage.hold_min_ms && watcher.judge.shows_no_worse();
    if now.elapsed_ms < stage.hold_ms && !early {
        return Step::Stay(None);
    }
    let verdict = now.verdict;
    // A URL that can't name a side judges the mix: alone it promotes nothing.
    let proven = watcher.names_a_side || watcher.judge.stage_had_traffic(Arm::Canary);
    if verdict.may_go_on() && proven {
        return go(verdict.evidence.clone(), verdict.warnings.clone());
    }
    if verdict.shared_fault {
        return Step::Stay(Some(format!(
            "both versions suffer, the rollout waits: {}",
            verdict.evidence
        )));
    }
    if now.elapsed_ms < stage.hold_max_ms {
        return Step::Stay(None);
    }
    let missing = verdict.missing.clone().unwrap_or_else(|| verdict.evidence.clone());
    match on_no_data {
        OnNoData::Promote => go(
            "promoted without enough data",
            vec![format!("promoted without enough data: {missing}")],
        ),
        OnNoData::Pause | OnNoData::Rollback
            if now.only_sources || on_no_data == OnNoData::Pause =>
        {
            Step::Stay(Some(format!(
                "not enough data after hold_max, the rollout waits: {missing}; go on with `backout promote`, or end it with `backout abort`"
            )))
        }
        OnNoData::Pause | OnNoData::Rollback => Step::End(WatchEnd::Failing(Failure {
            trigger: Trigger::NoTraffic,
            evidence: vec![format!("not enough data after hold_max: {missing}")],
            release_is_bad: false,
            by_router: false,
        })),
    }
}

/// Beyond the bake time, how long passing checks are waited for, milliseconds.
const BAKE_GRACE_MS: u64 = 120_000;

fn bake(journal: &Journal, passes: u32, (bake_ms, wanted): (u64, u32), now: &Progress<'_>) -> Step {
    if now.elapsed_ms < bake_ms {
        return Step::Stay(None);
    }
    let verdict = now.verdict;
    if passes >= wanted && !verdict.shared_fault {
        let mut warnings = verdict.warnings.clone();
        warnings.extend(
            verdict
                .missing
                .iter()
                .map(|missing| format!("not enough data at the end of bake: {missing}")),
        );
        return go(verdict.evidence.clone(), warnings);
    }
    if now.elapsed_ms > bake_ms.saturating_add(BAKE_GRACE_MS) && !verdict.shared_fault {
        return never_ready(journal, verdict);
    }
    Step::Stay(
        verdict
            .shared_fault
            .then(|| format!("both versions suffer, bake goes on: {}", verdict.evidence)),
    )
}

fn verify(
    cx: &Context,
    journal: &Journal,
    passes: u32,
    (wanted, deadline_ms): (u32, u64),
    now: &Progress<'_>,
) -> Step {
    if passes >= wanted {
        let data = serde_json::json!({ "healthy": true });
        return Step::Go(Receipt {
            message: now.verdict.evidence.clone(),
            data,
            ..Receipt::default()
        });
    }
    let since_ms = u64::try_from(now.began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if since_ms <= deadline_ms {
        return Step::Stay(None);
    }
    if now.verdict.level == Level::Failing {
        let message = format!("rolled back, but it is failing: {}", now.verdict.evidence);
        cx.events.warn(message.clone());
        let data = serde_json::json!({ "healthy": false });
        return Step::Go(Receipt {
            message: message.clone(),
            warnings: vec![message],
            data,
            ..Receipt::default()
        });
    }
    if since_ms > journal.plan.work_timeout_ms {
        return Step::End(WatchEnd::GaveUp(format!(
            "rollback.timeout is over: {}",
            now.verdict.evidence
        )));
    }
    Step::Stay(Some(format!(
        "past rollback.deadline and not proven healthy yet: {}",
        now.verdict.evidence
    )))
}

fn tell(
    scope: &WatchScope<'_>,
    journal: &Journal,
    watcher: &Watcher,
    mode: &WatchMode,
    elapsed_ms: u64,
    verdict: &Verdict,
) {
    let total_ms = match mode {
        WatchMode::Hold { stage, .. } => stage.hold_ms,
        WatchMode::Bake { bake_ms, .. } => *bake_ms,
        WatchMode::Keep { keep_ms } => *keep_ms,
        WatchMode::Pause { pause_ms } => *pause_ms,
        WatchMode::Ready { .. } | WatchMode::Verify { .. } => 0,
    };
    scope.cx.events.send(Event::Watch(Box::new(WatchReading {
        step: journal.plan.steps[scope.step].name.clone(),
        elapsed_ms,
        total_ms,
        paused: journal.state.paused,
        weights: watcher.feed.weights.clone(),
        sides: watcher.feed.readings.clone(),
        passes: watcher.judge.passes(Arm::Canary).unwrap_or(0),
        verdict: verdict.clone(),
    })));
}

/// Keeps the health of what is live: the baseline during stages, the judged side from 100 % on.
async fn keep_health(cx: &Context, journal: &Journal, watcher: &Watcher) {
    let judged_is_live = journal.rows.environment.live == journal.plan.deployment;
    let arm = if judged_is_live { Arm::Canary } else { Arm::Baseline };
    let services = watcher.health_of(arm);
    if services.is_empty() {
        return;
    }
    let overall = services.values().copied().reduce(Health::worse).unwrap_or(Health::Unknown);
    let fresh_for_ms = u64::try_from(cx.fresh_for(true).as_millis()).unwrap_or(60_000).max(5_000);
    let hosts = watcher.health_by_host(arm);
    let health = LiveHealth { overall, services, hosts, checked_at: cx.now(), fresh_for_ms };
    // Only for `status`; a failure here must not end the watch.
    let _ = cx.ledger.put_health(&cx.key, &health).await;
}
