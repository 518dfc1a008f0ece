//! Looks at processes become exits, each told once and with the code that it really had.

use std::collections::BTreeMap;

use backout_core::ids::Unit;
use backout_core::ports::{Observed, Running};
use backout_judge::{Arm, Event, Judge};
use jiff::Timestamp;

/// Looks in a row that find nothing running before that is an exit nobody restarts: between the end of a program
/// and its supervisor's word on it, one look may find neither.
const LOOKS: u8 = 2;

/// What is known of one process from one look to the next.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// It was looked at before.
    known: bool,
    /// Ends that were told.
    ends: u32,
    last_end: Option<Timestamp>,
    seen_running: bool,
    looks_without: u8,
    told_down: bool,
    passed: bool,
}

/// The processes under watch.
#[derive(Debug, Default)]
pub(super) struct Processes {
    memories: BTreeMap<Unit, Memory>,
    /// The judged side was started just before this watch: every end since counts. Else only those from now on.
    just_started: bool,
}

impl Processes {
    pub fn new(just_started: bool) -> Self {
        Self { memories: BTreeMap::new(), just_started }
    }

    /// A check of it passed.
    pub fn passed(&mut self, unit: &Unit) {
        self.memories.entry(unit.clone()).or_default().passed = true;
    }

    /// It was there before what is judged: its exits until now are no fault of that.
    pub fn was_there(&mut self, unit: &Unit, seen: &Observed) {
        let memory = self.memories.entry(unit.clone()).or_default();
        if !std::mem::replace(&mut memory.known, true) {
            (memory.ends, memory.last_end) = (seen.restarts, seen.last_exit.map(|exit| exit.at));
        }
    }

    /// A look at it.
    pub fn observed(
        &mut self,
        judge: &mut Judge,
        at_ms: i64,
        (arm, unit): (Arm, &Unit),
        seen: &Observed,
    ) {
        let who = crate::situation::who(unit);
        let memory = self.memories.entry(unit.clone()).or_default();
        let down = seen.running == Running::No;
        let last_end = seen.last_exit.map(|exit| exit.at);
        let ended = down && last_end.is_some() && (last_end != memory.last_end || seen.gave_up);
        let ends = seen.restarts.saturating_add(u32::from(ended));
        let first = !std::mem::replace(&mut memory.known, true);
        if first && !(self.just_started && arm == Arm::Canary) {
            (memory.ends, memory.last_end) = (ends, last_end);
        }
        let mut tell = |code, restarts, before_first_pass| {
            judge.observe(Event::Exited {
                at_ms,
                arm,
                service: &who,
                code,
                restarts,
                before_first_pass,
            });
        };
        let code = seen.last_exit.and_then(|exit| exit.code);
        if ends > memory.ends {
            (memory.ends, memory.last_end) = (ends, last_end);
            tell(code, ends, !memory.passed);
        }
        if seen.gave_up && !memory.told_down {
            memory.told_down = true;
            tell(code, 0, false);
        }
        // Its end is told, and its supervisor waits before it starts it again.
        let awaited = memory.ends > seen.restarts;
        if !down {
            (memory.looks_without, memory.told_down) = (0, false);
        } else if memory.seen_running && !awaited && !memory.told_down {
            memory.looks_without = memory.looks_without.saturating_add(1);
            if memory.looks_without >= LOOKS {
                memory.told_down = true;
                tell(None, 0, !memory.passed);
            }
        }
        memory.seen_running |= seen.running == Running::Yes;
    }
}

#[cfg(test)]
mod tests {
    use backout_core::ports::Exit;
    use backout_judge::{Level, Settings};

    use super::*;
    use crate::situation::tests::unit;

    fn running(restarts: u32, last: Option<Exit>) -> Observed {
        Observed {
            running: Running::Yes,
            pid: Some(7),
            restarts,
            last_exit: last,
            ..Observed::nothing()
        }
    }

    fn down(restarts: u32, last: Option<Exit>) -> Observed {
        Observed { running: Running::No, pid: None, ..running(restarts, last) }
    }

    fn exit(code: i32, second: i64) -> Option<Exit> {
        let at = Timestamp::from_second(second).unwrap();
        Some(Exit { code: Some(code), signal: None, at })
    }

    fn look(processes: &mut Processes, judge: &mut Judge, looks: &[Observed]) -> (Level, String) {
        let web = unit("web");
        for seen in looks {
            processes.observed(judge, 1_000, (Arm::Canary, &web), seen);
        }
        let verdict = judge.verdict(1_000);
        (verdict.level, verdict.evidence)
    }

    fn after_first_pass() -> (Processes, Judge) {
        let mut processes = Processes::new(true);
        processes.passed(&unit("web"));
        (processes, Judge::new(Settings::default(), 0))
    }

    #[test]
    fn an_exit_counts_once_whether_it_is_seen_before_or_after_the_restart() {
        let mut processes = Processes::new(true);
        let mut judge = Judge::new(Settings::default(), 0);
        let looks = [
            running(0, None),
            // It ended, and its supervisor has not said so yet.
            down(0, None),
            down(0, exit(3, 1)),
            running(1, exit(3, 1)),
            down(1, exit(3, 2)),
            down(1, exit(3, 2)),
            running(2, exit(3, 2)),
        ];
        let (level, evidence) = look(&mut processes, &mut judge, &looks);
        assert_ne!(level, Level::Failing, "two exits are no third: {evidence}");
        let (level, evidence) = look(&mut processes, &mut judge, &[down(2, exit(3, 3))]);
        assert_eq!(level, Level::Failing);
        assert_eq!(evidence, "web exited with code 3, 3 times before its first passing check");
    }

    #[test]
    fn one_exit_that_is_restarted_is_no_failure_and_a_loop_is() {
        let (mut processes, mut judge) = after_first_pass();
        let looks = [running(0, None), down(0, None), down(0, exit(7, 1)), running(1, exit(7, 1))];
        let (level, evidence) = look(&mut processes, &mut judge, &looks);
        assert_ne!(level, Level::Failing, "{evidence}");
        let looks = [running(2, exit(7, 2)), running(3, exit(7, 3))];
        let (level, evidence) = look(&mut processes, &mut judge, &looks);
        assert_eq!(level, Level::Failing);
        assert!(evidence.starts_with("web exited with code 7, 3 times in"), "{evidence}");
    }

    #[test]
    fn what_stays_down_fails_with_and_without_a_supervisor() {
        let (mut processes, mut judge) = after_first_pass();
        let (level, evidence) =
            look(&mut processes, &mut judge, &[running(0, None), down(0, None), down(0, None)]);
        assert_eq!(level, Level::Failing);
        assert_eq!(evidence, "web ended without an exit code and was not restarted");

        let (mut processes, mut judge) = after_first_pass();
        let gave_up = Observed { gave_up: true, ..down(5, exit(7, 9)) };
        let (level, evidence) =
            look(&mut processes, &mut judge, &[running(5, exit(7, 8)), gave_up]);
        assert_eq!(level, Level::Failing);
        assert_eq!(evidence, "web exited with code 7 and was not restarted");
    }

    #[test]
    fn exits_before_a_watch_that_goes_on_are_history() {
        let mut processes = Processes::new(false);
        let mut judge = Judge::new(Settings::default(), 0);
        let (level, evidence) = look(&mut processes, &mut judge, &[running(4, exit(3, 1))]);
        assert_ne!(level, Level::Failing, "{evidence}");
    }
}
