//! Ending what runs in a slot.

use std::time::{Duration, Instant};

use backout_core::ids::Unit;
use backout_core::ports::{AdapterError, Receipt, StepCx};
use rustix::process::Signal;

use super::ProcessTargetOptions;
use super::orphans;
use super::slot::{SlotFolder, refuse_foreign};
use super::spec::{FORMAT, Phase, Status, StopOrder};
use crate::host::procfs::ProcessId;

/// What a supervisor may take beyond the grace of its program.
const MARGIN: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(10);

/// Makes nothing run in a slot: asks the supervisor, kills it if it does not obey, and ends what it leaves.
pub(crate) async fn stop(
    options: &ProcessTargetOptions,
    unit: &Unit,
    grace_ms: u64,
    cx: &StepCx,
) -> Result<Receipt, AdapterError> {
    let slot = SlotFolder::of(&options.state_dir, unit);
    if !slot.exists() {
        return Ok(Receipt { message: format!("{unit} does not run"), ..Receipt::default() });
    }
    let _lock = slot.lock(cx.timeout).await?;
    if let Some(spec) = slot.read_spec()? {
        refuse_foreign(&spec, &options.ledger)?;
    }
    let failed = |e: std::io::Error| AdapterError::transient(format!("failed to stop {unit}: {e}"));
    let grace = Duration::from_millis(grace_ms);
    let mut warnings = Vec::new();
    let ran = slot.is_supervised().map_err(failed)?;
    if ran {
        slot.write_stop_order(&StopOrder { format: FORMAT, grace_ms }).map_err(failed)?;
        if !end_supervisor(&slot, grace + MARGIN).await? {
            warnings.push(format!("the supervisor of {unit} did not obey and was killed"));
        }
    }
    let orphans = orphans::end(&slot, unit, grace).await?;
    if orphans > 0 {
        warnings.push(format!("ended {orphans} process(es) of {unit} whose supervisor was gone"));
    }
    if let Some(status) = slot.read_status()?.filter(|s| s.phase != Phase::Stopped) {
        slot.write_status(&Status { phase: Phase::Stopped, child: None, ..status })
            .map_err(failed)?;
    }
    slot.forget_spec().map_err(failed)?;
    slot.forget_stop_order().map_err(failed)?;
    let message =
        if ran || orphans > 0 { format!("stopped {unit}") } else { format!("{unit} did not run") };
    Ok(Receipt { message, warnings, ..Receipt::default() })
}

/// Asks the supervisor to end, and kills it if it does not. False if it had to be killed.
async fn end_supervisor(slot: &SlotFolder, patience: Duration) -> Result<bool, AdapterError> {
    let failed =
        |e: std::io::Error| AdapterError::transient(format!("failed to stop a supervisor: {e}"));
    let end = Instant::now() + patience;
    let mut asked = None;
    while slot.is_supervised().map_err(failed)? {
        let supervisor = slot.read_status()?.map(|s| s.supervisor).filter(ProcessId::is_alive);
        // Asked once, also if its first status is only written while we wait.
        if let Some(supervisor) = supervisor
            && asked.as_ref() != Some(&supervisor)
        {
            let _ = supervisor.signal(Signal::TERM);
            asked = Some(supervisor);
        }
        if Instant::now() >= end {
            return kill_supervisor(slot, asked.as_ref()).await;
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(true)
}

async fn kill_supervisor(
    slot: &SlotFolder,
    supervisor: Option<&ProcessId>,
) -> Result<bool, AdapterError> {
    if let Some(supervisor) = supervisor {
        let _ = supervisor.signal(Signal::KILL);
    }
    let end = Instant::now() + Duration::from_secs(5);
    while slot.is_supervised().map_err(|e| AdapterError::transient(e.to_string()))? {
        if Instant::now() >= end {
            return Err(AdapterError::unknown(
                "failed to end a supervisor: it holds its lock although it was killed",
            ));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(false)
}
