//! From a written specification to a supervisor that has reported.

use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use backout_core::ids::Unit;
use backout_core::ports::AdapterError;
use tokio::process::{Child, Command};

use super::ProcessTargetOptions;
use super::environment::Environment;
use super::slot::SlotFolder;
use super::spec::{FORMAT, HandOver, Phase, SlotSpec, Status};
use crate::host::procfs::DETACHED_VARIABLE;

const POLL: Duration = Duration::from_millis(10);

/// Starts a supervisor; it does nothing before the hand-over.
pub(crate) async fn spawn_supervisor(
    options: &ProcessTargetOptions,
    slot: &SlotFolder,
    unit: &Unit,
) -> Result<Child, AdapterError> {
    let failed = |e: std::io::Error| {
        AdapterError::transient(format!("failed to start the supervisor of {unit}: {e}"))
    };
    let log = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(slot.supervisor_log())
        .map_err(failed)?;
    // It outlives its caller: it makes a session of its own, and is given nothing that holds a terminal.
    Command::new(&options.supervise_exe)
        .args(&options.supervise_args)
        .arg(slot.spec_path())
        .env_clear()
        .envs(&options.inherited)
        .env(DETACHED_VARIABLE, "1")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(false)
        .spawn()
        .map_err(failed)
}

/// Gives the supervisor its secrets, and with them the word to begin.
pub(crate) async fn hand_over(supervisor: &mut Child, spec: &SlotSpec, environment: Environment) {
    let hand_over =
        HandOver { format: FORMAT, instance: spec.instance.clone(), secrets: environment.secret };
    if let (Some(mut stdin), Ok(bytes)) = (supervisor.stdin.take(), serde_json::to_vec(&hand_over))
    {
        use tokio::io::AsyncWriteExt;
        // A supervisor that can't read this says why in its first report.
        let _ = stdin.write_all(&bytes).await;
        let _ = stdin.shutdown().await;
    }
}

/// Waits until the supervisor says that the program was started, or why not.
pub(crate) async fn first_report(
    slot: &SlotFolder,
    unit: &Unit,
    spec: &SlotSpec,
    supervisor: &mut Child,
    patience: Duration,
) -> Result<Status, AdapterError> {
    let end = Instant::now() + patience;
    loop {
        // Asked before the status is read: one that ended between the two has written its last word.
        let ended = supervisor.try_wait().ok().flatten();
        let status = slot
            .read_status()?
            .filter(|s| s.instance == spec.instance && s.phase != Phase::Starting);
        match status {
            Some(status) if status.phase == Phase::Failed => {
                let _ = tokio::time::timeout(patience, supervisor.wait()).await;
                let why = status.error.unwrap_or_default();
                let _ = slot.forget_spec();
                return Err(AdapterError::permanent(why)
                    .with_hint(format!("look at the command of {unit} in backout.yaml")));
            }
            Some(status) => return Ok(status),
            None => {}
        }
        if let Some(ended) = ended {
            let mut said = Vec::new();
            if let Ok(mut log) = std::fs::File::open(slot.supervisor_log()) {
                let _ = std::io::copy(&mut std::io::Read::take(&mut log, 2048), &mut said);
            }
            let said = crate::host::printable(&said);
            return Err(AdapterError::transient(format!(
                "failed to start {unit}: its supervisor ended ({ended}): {said}"
            )));
        }
        if Instant::now() >= end {
            return Err(AdapterError::unknown(format!(
                "failed to hear from the supervisor of {unit} in time"
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}
