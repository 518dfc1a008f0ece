//! Starting a release in a slot.

use std::time::{Duration, Instant};

use backout_core::ids::Unit;
use backout_core::model::Release;
use backout_core::ports::{AdapterError, Receipt, StepCx};

use super::launch::{first_report, hand_over, spawn_supervisor};
use super::prepare::prepare;
use super::slot::{SlotFolder, refuse_foreign};
use super::spec::{Phase, SlotSpec};
use super::{ProcessTargetOptions, orphans, process_spec};
use crate::host::FileLock;

/// How long an orphan may take to end before it is killed.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);
/// How long a supervisor may take to begin or to end.
pub(crate) const REPORT_PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// Makes a release run in a slot. The same deployment and release twice is one start.
///
/// A caller that is dropped before the hand-over has started nothing; after it the supervisor goes on alone,
/// and the next call finds it.
pub(crate) async fn start(
    options: &ProcessTargetOptions,
    unit: &Unit,
    release: &Release,
    deployment: u64,
    cx: &StepCx,
) -> Result<Receipt, AdapterError> {
    let began = Instant::now();
    let definition = process_spec(unit, release)?;
    let slot = SlotFolder::of(&options.state_dir, unit);
    slot.create().map_err(|e| AdapterError::permanent(e.to_string()))?;
    let _lock = slot.lock(cx.timeout).await?;
    let free = match slot.read_spec()? {
        Some(spec) => {
            refuse_foreign(&spec, &options.ledger)?;
            match free_or_running(&slot, &spec, release, deployment, cx.timeout).await? {
                Found::Free(lock) => lock,
                Found::Running(receipt) => return Ok(receipt),
            }
        }
        None => hold(&slot, unit, cx.timeout).await?,
    };
    let mut warnings = Vec::new();
    let ended = orphans::end(&slot, unit, ORPHAN_GRACE).await?;
    if ended > 0 {
        warnings.push(format!("ended {ended} process(es) of {unit} whose supervisor was gone"));
    }
    let (spec, environment) =
        prepare(options, &slot, unit, release, deployment, definition, cx).await?;
    let failed = |e: std::io::Error| {
        AdapterError::transient(format!("failed to prepare the start of {unit}: {e}"))
    };
    slot.forget_stop_order().map_err(failed)?;
    slot.write_spec(&spec).map_err(failed)?;
    // From here on only a supervisor that is handed this very specification can use the slot.
    drop(free);
    let mut supervisor = spawn_supervisor(options, &slot, unit).await?;
    hand_over(&mut supervisor, &spec, environment).await;
    let patience =
        cx.timeout.saturating_sub(began.elapsed()).clamp(Duration::from_secs(1), REPORT_PATIENCE);
    let status = first_report(&slot, unit, &spec, &mut supervisor, patience).await?;
    slot.prune_logs(deployment);
    Ok(Receipt {
        message: format!("started {unit} version {}", spec.version),
        warnings,
        data: serde_json::json!({ "port": spec.port, "pid": status.child.map(|c| c.pid) }),
        ..Receipt::default()
    })
}

/// What a start finds in its slot.
enum Found {
    /// Nothing, and no supervisor can begin as long as this is held.
    Free(FileLock),
    /// Exactly what was to be started.
    Running(Receipt),
}

async fn hold(
    slot: &SlotFolder,
    unit: &Unit,
    patience: Duration,
) -> Result<FileLock, AdapterError> {
    FileLock::take(&slot.supervisor_lock(), patience.min(REPORT_PATIENCE))
        .await
        .map_err(|e| AdapterError::transient(e.to_string()))?
        .ok_or_else(|| {
            AdapterError::transient(format!(
                "failed to start {unit}: a supervisor that was given up is still there"
            ))
        })
}

/// Looks until the slot is free, or surely runs this or something else.
async fn free_or_running(
    slot: &SlotFolder,
    spec: &SlotSpec,
    release: &Release,
    deployment: u64,
    patience: Duration,
) -> Result<Found, AdapterError> {
    let end = Instant::now() + patience.min(REPORT_PATIENCE);
    let failed = |e: std::io::Error| AdapterError::transient(e.to_string());
    while Instant::now() < end {
        // Asked with a shared lock first: an observer's glance must not be taken for a supervisor.
        if !slot.is_supervised().map_err(failed)? {
            if let Some(lock) =
                FileLock::take(&slot.supervisor_lock(), POLL).await.map_err(failed)?
            {
                return Ok(Found::Free(lock));
            }
            continue;
        }
        let status =
            slot.read_status()?.filter(|s| s.instance == spec.instance && s.supervisor.is_alive());
        let same = (spec.deployment, &spec.release) == (deployment, &release.id);
        match status.as_ref().map(|s| s.phase) {
            Some(Phase::Running | Phase::Waiting) if same => {
                return Ok(Found::Running(Receipt {
                    message: format!("{} runs version {} already", spec.unit, spec.version),
                    data: serde_json::json!({ "port": spec.port, "pid": status.and_then(|s| s.child).map(|c| c.pid) }),
                    ..Receipt::default()
                }));
            }
            Some(Phase::Running | Phase::Waiting) => {
                return Err(AdapterError::permanent(format!(
                    "failed to start deployment {deployment} in {}: deployment {} (version {}) runs there",
                    spec.unit, spec.deployment, spec.version
                ))
                .with_hint("stop it first"));
            }
            // Beginning or ending: wait for one or the other.
            _ => tokio::time::sleep(POLL).await,
        }
    }
    Err(AdapterError::transient(format!(
        "failed to start {}: its supervisor neither begins nor ends",
        spec.unit
    )))
}
