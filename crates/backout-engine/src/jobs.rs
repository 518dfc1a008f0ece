//! Services that run to their end: started once for a deployment, awaited, and never run twice.

use std::time::Duration;

use backout_core::ids::Unit;
use backout_core::model::{JobSpec, Release, Service, TargetKind};
use backout_core::ports::{
    AdapterError, Exit, Observed, Receipt, Running, StepCx, Target, TargetAction,
};
use tokio::time::Instant;

use crate::context::Context;

const PERIOD: Duration = Duration::from_millis(100);
/// Between the end of a program and the word on it: what it left behind is ended first.
const WORD_LIMIT: Duration = Duration::from_secs(10);
/// Words of its output in an error.
const TAIL_CHARS: usize = 400;

/// How a job of one deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It was not begun for this deployment.
    NotBegun,
    Runs,
    Ended(Exit),
    /// It was begun, and nobody knows how it went.
    Lost,
}

/// The job of a service that runs to its end and is then looked at. A script's call does all that by itself.
pub(crate) fn job_of(cx: &Context, release: &Release, unit: &Unit) -> Option<JobSpec> {
    let service = release.content.services.get(&unit.service)?;
    service.job.filter(|_| cx.policy.target != TargetKind::Script)
}

/// Whether a service is done once it has run.
pub(crate) fn is_job(service: &Service) -> bool {
    service.job.is_some()
}

fn standing(seen: &Observed, release: &Release, deployment: u64) -> Standing {
    if seen.deployment != Some(deployment) || seen.release.as_ref() != Some(&release.id) {
        return Standing::NotBegun;
    }
    match (seen.running, seen.last_exit) {
        (Running::Yes | Running::Unknown, _) => Standing::Runs,
        (Running::No, Some(exit)) => Standing::Ended(exit),
        (Running::No, None) => Standing::Lost,
    }
}

/// Starts the job if it was not begun for this deployment, and waits for its end.
///
/// # Errors
/// Permanent when it ended badly, ran too long, or its end is not known: it is never run again.
pub(crate) async fn run(
    target: &dyn Target,
    action: &TargetAction,
    job: JobSpec,
    grace_ms: u64,
    step: &StepCx,
) -> Result<Receipt, AdapterError> {
    let TargetAction::Start { unit, release, deployment, .. } = action else {
        return target.apply(action, step).await;
    };
    let until = Instant::now() + Duration::from_millis(job.timeout_ms);
    let mut lost_since: Option<Instant> = None;
    let mut seen = target.observe(unit, Some(release)).await?;
    if standing(&seen, release, *deployment) == Standing::NotBegun {
        target.apply(action, step).await?;
        seen = target.observe(unit, Some(release)).await?;
    }
    loop {
        match standing(&seen, release, *deployment) {
            Standing::Ended(exit) => return ended(unit, exit, &seen),
            Standing::Lost
                if lost_since.get_or_insert_with(Instant::now).elapsed() < WORD_LIMIT =>
            {
                tokio::time::sleep(PERIOD).await;
            }
            Standing::Lost | Standing::NotBegun => {
                return Err(AdapterError::permanent(format!(
                    "{} was begun, and how it ended is not known; it is not run twice",
                    unit.service
                ))
                .with_hint("look at what it has done, and deploy again"));
            }
            Standing::Runs if Instant::now() >= until => {
                let (unit, release) = (unit.clone(), release.clone());
                let message =
                    format!("{} did not end within {} s", unit.service, job.timeout_ms / 1000);
                target.apply(&TargetAction::Stop { unit, release, grace_ms }, step).await?;
                return Err(AdapterError::permanent(message)
                    .with_hint("give it more time with `timeout`, or make it shorter"));
            }
            Standing::Runs => tokio::time::sleep(PERIOD).await,
        }
        // What can't be told now may be told the next time.
        if let Ok(now) = target.observe(unit, Some(release)).await {
            seen = now;
        }
    }
}

fn ended(unit: &Unit, exit: Exit, seen: &Observed) -> Result<Receipt, AdapterError> {
    if exit.code == Some(0) {
        let message = format!("{} has ended with 0", unit.service);
        return Ok(Receipt { message, ..Receipt::default() });
    }
    let how = match (exit.code, exit.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    };
    let tail = seen.tail.as_deref().unwrap_or_default().trim();
    let from = tail.char_indices().rev().nth(TAIL_CHARS).map_or(0, |(at, _)| at);
    let words = if tail.is_empty() { String::new() } else { format!(": {}", &tail[from..]) };
    Err(AdapterError::permanent(format!("{} ended with {how}{words}", unit.service)))
}

/// Whether it has ended well for this deployment. One that still runs is awaited by the next try.
pub(crate) fn has_ended_well(seen: &Observed, release: &Release, deployment: u64) -> bool {
    matches!(standing(seen, release, deployment), Standing::Ended(exit) if exit.code == Some(0))
}
