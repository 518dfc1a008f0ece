//! Processes as they are seen by a ledger that several machines share.

use backout_core::ports::Holder;

use crate::surroundings::{Liveness, RealSurroundings, Surroundings, is_of_this_boot};

/// The real ones. A holder of another boot may live on another machine: only its term counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct SharedSurroundings;

impl Surroundings for SharedSurroundings {
    fn boottime_ms(&self) -> u64 {
        RealSurroundings.boottime_ms()
    }

    fn liveness(&self, holder: &Holder) -> Liveness {
        if is_of_this_boot(holder) { RealSurroundings.liveness(holder) } else { Liveness::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder_for_this_process;

    #[test]
    fn a_holder_of_another_machine_is_not_known_to_be_gone() {
        let here = holder_for_this_process("deploy", false).unwrap();
        assert_eq!(SharedSurroundings.liveness(&here), Liveness::Lives);
        let gone = Holder { pid_start: here.pid_start + 1, ..here.clone() };
        assert_eq!(SharedSurroundings.liveness(&gone), Liveness::Gone);
        let there = Holder { boot_id: "another boot/1".to_owned(), ..gone };
        assert_eq!(SharedSurroundings.liveness(&there), Liveness::Unknown);
    }
}
