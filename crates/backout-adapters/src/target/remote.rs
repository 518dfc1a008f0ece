//! What targets on other hosts share.

use backout_core::ports::{HostEnded, HostOutput};

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
