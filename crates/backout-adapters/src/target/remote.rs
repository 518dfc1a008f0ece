//! What targets on other hosts share.

use backout_core::ids::Unit;
use backout_core::ports::{
    AdapterError, GuardState, Host, HostEnded, HostGuard, HostOutput, Receipt,
};

use crate::host::{Captured, Ended, Finished};

/// What ran on a host, as what runs here is told.
pub(crate) fn finished(output: HostOutput, keep: usize) -> Finished {
    let captured = |bytes: &[u8]| {
        // It was cut where it ran, and the note about that stands in it.
        let mut captured = Captured::new(bytes.len().max(keep));
        captured.push(bytes);
        captured
    };
    Finished {
        ended: match output.ended {
            HostEnded::Exited(code) => Ended::Exited(code),
            HostEnded::Signalled(signal) => Ended::Signalled(signal),
            HostEnded::TimedOut => Ended::TimedOut,
        },
        stdout: captured(&output.stdout),
        stderr: captured(&output.stderr),
        took: output.took,
    }
}

/// Lets a guarded change stay.
///
/// # Errors
/// As the host says.
pub(crate) async fn confirm(
    host: &dyn Host,
    unit: &Unit,
    deployment: u64,
) -> Result<Receipt, AdapterError> {
    let guard = host.confirm(unit, deployment).await?;
    let name = host.name();
    Ok(match guard {
        Some(_) => Receipt {
            message: format!("{name} keeps deployment {deployment}"),
            ..Receipt::default()
        },
        None => Receipt {
            message: format!("{name} had nothing to wait for"),
            warnings: vec![format!(
                "{unit} was not guarded: {name} would not have taken deployment {deployment} back"
            )],
            ..Receipt::default()
        },
    })
}

/// What a guard says in words, where that is of interest.
pub(crate) fn words_of(host: &dyn Host, guard: &HostGuard) -> Option<String> {
    let (name, number) = (host.name(), guard.deployment);
    match &guard.state {
        GuardState::Armed | GuardState::Confirmed => None,
        GuardState::Lost => Some(format!(
            "nothing on {name} would take deployment {number} back by itself any more: its watcher is gone"
        )),
        GuardState::Reverting => {
            Some(format!("{name} is taking deployment {number} back by itself"))
        }
        GuardState::Reverted(at) => {
            Some(format!("{name} took deployment {number} back by itself at {at}"))
        }
        GuardState::Failed(at, said) => Some(format!(
            "{name} failed to take deployment {number} back by itself at {at}: {said}"
        )),
    }
}
