//! What the judge saw, kept for `judge explain`: one document per deployment, written now and then and at the end.

use std::time::Duration;

use backout_core::saga::Failure;
use backout_judge::sequential::Part;
use backout_judge::{Arm, Level, Verdict};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::run::WatchScope;
use super::sampler::Watcher;
use crate::journal::Journal;

const PERIOD: Duration = Duration::from_secs(5);

/// Requests of one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideAccount {
    /// Of users, as the router counts them.
    pub requests: u64,
    /// Failed ones among them.
    pub failed: u64,
}

/// One test and its part of the budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartAccount {
    /// `errors`, `latency` or a metric's name.
    pub name: String,
    /// Its weight in the average.
    pub weight: f64,
    /// Its e-value; bounded, since JSON knows no infinity.
    pub e_value: f64,
}

/// What the judge saw of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeAccount {
    /// Format of this document.
    pub format: u32,
    /// The deployment.
    pub deployment: u64,
    /// Its version.
    pub version: String,
    /// The one it is compared with.
    pub baseline: Option<String>,
    /// The step that watched last.
    pub step: String,
    /// When this was written.
    pub at: Timestamp,
    /// The verdict then.
    pub verdict: Verdict,
    /// The combined e-value.
    pub e_value: f64,
    /// From here on it fails.
    pub threshold: f64,
    /// The highest probability of a false rollback over the whole watch.
    pub false_rollback_probability: f64,
    /// Share of requests that go to the new side, percent.
    pub percent: Option<f64>,
    /// Requests of the new side.
    pub canary: SideAccount,
    /// Requests of the other.
    pub other: SideAccount,
    /// Failed requests of the new side in a row that would fail it; none: not by errors, or not by a thousand.
    pub errors_to_fail: Option<u32>,
    /// How the budget is divided.
    pub parts: Vec<PartAccount>,
    /// The combined e-value over time: milliseconds since 1970, value.
    pub points: Vec<(i64, f64)>,
}

/// Version of the document.
pub const JUDGE_ACCOUNT_FORMAT: u32 = 1;

/// The name under which the ledger keeps it.
#[must_use]
pub fn judge_account_name(deployment: u64) -> String {
    format!("judge/{deployment}")
}

/// Writes it now and then.
#[derive(Debug, Default)]
pub(super) struct Account {
    written: Option<Instant>,
}

impl Account {
    pub async fn look_after(
        &mut self,
        scope: &WatchScope<'_>,
        journal: &Journal,
        watcher: &Watcher,
    ) {
        if self.written.is_some_and(|at| at.elapsed() < PERIOD) || !watcher.is_judging() {
            return;
        }
        self.written = Some(Instant::now());
        if let Some((name, document)) = document(scope, journal, watcher, None) {
            // For explanation only; a failure here must not end the watch.
            let _ = scope.cx.ledger.put_document(&scope.cx.key, &name, &document).await;
        }
    }
}

/// Writes it for the last time, beside what comes next: a way back waits for nothing.
/// The router may have found it out before the judge did.
pub(super) fn close(
    scope: &WatchScope<'_>,
    journal: &Journal,
    watcher: &Watcher,
    failure: Option<&Failure>,
) {
    if !watcher.is_judging() {
        return;
    }
    if let Some((name, document)) = document(scope, journal, watcher, failure) {
        let (ledger, key) = (scope.cx.ledger.clone(), scope.cx.key.clone());
        tokio::spawn(async move {
            let _ = ledger.put_document(&key, &name, &document).await;
        });
    }
}

fn finite(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1e300) }
}

fn document(
    scope: &WatchScope<'_>,
    journal: &Journal,
    watcher: &Watcher,
    failure: Option<&Failure>,
) -> Option<(String, serde_json::Value)> {
    let now = scope.cx.now();
    let judge = &watcher.judge;
    let side = |arm: Arm| watcher.sides.iter().find(|side| side.arm == arm);
    let requests = |arm: Arm| {
        let reading = side(arm).and_then(|side| watcher.feed.readings.get(&side.slot));
        reading.map_or_else(SideAccount::default, |of| SideAccount {
            requests: of.requests,
            failed: of.failed,
        })
    };
    let judged = watcher.judged();
    let total: u32 = watcher.feed.weights.values().map(|weight| u32::from(*weight)).sum();
    let weight = watcher.feed.weights.get(&judged.slot).copied().unwrap_or(0);
    let e_values = judge.comparison().e_values();
    let mut verdict = watcher.verdict(now.as_millisecond(), false).0;
    if let Some(failure) = failure.filter(|_| !verdict.is_failing()) {
        verdict.level = Level::Failing;
        verdict.evidence = failure.evidence.join("; ");
        verdict.missing = None;
    }
    let part = |part: Part| PartAccount {
        name: part.name,
        weight: part.weight,
        e_value: finite(part.e_value),
    };
    let account = JudgeAccount {
        format: JUDGE_ACCOUNT_FORMAT,
        deployment: judged.deployment,
        version: judged.release.content.version.to_string(),
        baseline: side(Arm::Baseline).map(|side| side.release.content.version.to_string()),
        step: journal.plan.steps[scope.step].name.clone(),
        at: now,
        verdict,
        e_value: finite(e_values.combined),
        threshold: e_values.threshold,
        false_rollback_probability: scope.cx.policy.judge.false_rollback_probability,
        percent: (total > 0).then(|| f64::from(weight) * 100.0 / f64::from(total)),
        canary: requests(Arm::Canary),
        other: requests(Arm::Baseline),
        errors_to_fail: judge.comparison().errors_to_alarm(),
        parts: judge.comparison().parts().into_iter().map(part).collect(),
        points: judge.trace().points().iter().map(|(at, value)| (*at, finite(*value))).collect(),
    };
    let document = serde_json::to_value(&account).ok()?;
    Some((judge_account_name(judged.deployment), document))
}
