//! Keeps health and rollback readiness of what is live fresh, for `status` and for the next rollback.

use std::sync::atomic::Ordering;
use std::time::Duration;

use backout_core::model::Health;
use tokio::time::Instant;

use super::tender::{PERIOD, Pauses, Tender};
use crate::commands::EngineError;
use crate::commands::health::{CheckReport, check_now};
use crate::commands::recover::is_down;
use crate::context::Context;
use crate::readiness;

/// Readiness reads every artifact copy again: not more often than this.
const READINESS_PERIOD: Duration = Duration::from_secs(60);

/// What ran so long is no longer the start before.
const STAYED_UP: Duration = Duration::from_secs(600);

/// What was refreshed, and when.
#[derive(Default)]
struct Memory {
    checked_at: Option<Instant>,
    proven: Option<(Instant, Option<u64>)>,
    up_since: Option<Instant>,
}

/// Refreshes until it leaves.
pub(super) async fn refresh(tender: &Tender) {
    let (mut memory, mut pauses) = (Memory::default(), Pauses::default());
    let mut leaving = tender.leaving();
    while !tender.leaves() {
        let cx = tender.context();
        let looked = tokio::select! {
            looked = Box::pin(look(tender, &cx, &mut memory)) => looked,
            // Probes may take long, and change nothing.
            () = &mut leaving => return,
        };
        let pause = match looked {
            Ok(()) => {
                pauses.works(tender);
                PERIOD
            }
            Err(error) => pauses.failed(tender, &cx, &error),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut leaving => return,
        }
    }
}

async fn look(tender: &Tender, cx: &Context, memory: &mut Memory) -> Result<(), EngineError> {
    let period = cx.fresh_for(false) / 2;
    let is_due = |at: Option<Instant>, period| at.is_none_or(|at| at.elapsed() >= period);
    // Whoever works on it refreshes both.
    let held = cx.ledger.lease(&tender.key).await?.is_some_and(|view| view.alive);
    if held || !tender.leads(cx).await? {
        return Ok(());
    }
    if is_due(memory.checked_at, period) {
        memory.checked_at = Some(Instant::now());
        let report = check_now(cx).await?;
        say(tender, report.as_ref());
        let down = report.is_some() && is_down(cx).await?;
        tell_guard(tender, memory, down);
    }
    let live = crate::journal::environment(cx.ledger.as_ref(), &cx.key).await?.live;
    let unproven = memory
        .proven
        .is_none_or(|(at, of)| of != live || at.elapsed() >= READINESS_PERIOD.max(period));
    if unproven && live.is_some() {
        readiness::refresh(cx).await;
        memory.proven = Some((Instant::now(), live));
    }
    Ok(())
}

/// The guard starts what is down, unless it was started too often and never stayed up.
fn tell_guard(tender: &Tender, memory: &mut Memory, down: bool) {
    if !down {
        memory.up_since.get_or_insert_with(Instant::now);
        tender.down.store(false, Ordering::SeqCst);
        return;
    }
    if memory.up_since.take().is_some_and(|since| since.elapsed() > STAYED_UP) {
        tender.stayed_up.store(true, Ordering::SeqCst);
    }
    if !tender.down.swap(true, Ordering::SeqCst) {
        tender.look.notify_one();
    }
}

/// Health is told when it changes.
fn say(tender: &Tender, report: Option<&CheckReport>) {
    let Some(report) = report else {
        tender.is_over("health");
        return;
    };
    let first = !tender.is_over("health-known");
    tender.is_news("health-known", "");
    if !tender.is_news("health", report.health.as_str()) {
        return;
    }
    let health = report.health.as_str();
    let findings = report.findings.join("; ");
    match report.health {
        Health::Healthy if first => {}
        Health::Healthy => {
            tracing::info!(environment = %tender.key, health, "what is live is healthy again")
        }
        Health::Warning => {
            tracing::warn!(environment = %tender.key, health, "what is live: {findings}")
        }
        Health::Failing | Health::Unknown => {
            tracing::error!(environment = %tender.key, health, "what is live is not healthy: {findings}");
        }
    }
}
