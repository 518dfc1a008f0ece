//! How long the engine itself took to bring an operation to its end: from when it was told to until it was done,
//! without the time in which a step was at work. That is the adapters' (or a watch's, as configured).

use std::collections::BTreeSet;
use std::time::Duration;

use backout_core::saga::{Entry, EntryKind};
use jiff::Timestamp;

use crate::support::{World, ledger_file};

/// Waiting for leases, pauses between tries, commits, and the start and the end of the program.
const OWN: Duration = Duration::from_secs(10);

/// What a point panics with that came to its end, but not in time. On a machine that does much else that says nothing:
/// it is tried again alone.
pub struct TooSlow(pub String);

/// The time that the engine takes, from its making on.
pub struct OwnTime {
    began: Timestamp,
}

impl OwnTime {
    pub fn begins() -> Self {
        Self { began: Timestamp::now() }
    }

    /// What it came to until now.
    ///
    /// # Panics
    /// With [`TooSlow`] where it is too much.
    pub fn ends(self, world: &World) -> Duration {
        if !world.state_dir().join("ledger.db").exists() {
            return Duration::ZERO;
        }
        let (own, longest) = self.sum(&ledger_file::entries(&world.state_dir()));
        if own >= OWN {
            let words =
                format!("the engine itself took {own:?}, the longest of it before {longest}");
            std::panic::panic_any(TooSlow(words));
        }
        own
    }

    fn sum(&self, entries: &[(String, Entry)]) -> (Duration, String) {
        let mut at_work: BTreeSet<(&str, usize)> = BTreeSet::new();
        let (mut own, mut longest) = (Duration::ZERO, (Duration::ZERO, "its beginning".to_owned()));
        let mut last = self.began;
        let mut pass = |until: Timestamp, idle: bool, what: &dyn Fn() -> String| {
            let gap = until.duration_since(last).try_into().unwrap_or(Duration::ZERO);
            if idle {
                own += gap;
                if gap > longest.0 {
                    longest = (gap, what());
                }
            }
            last = last.max(until);
        };
        for (operation, entry) in entries.iter().filter(|(_, entry)| entry.at >= self.began) {
            pass(entry.at, at_work.is_empty(), &|| format!("{:?} of {operation}", entry.kind));
            match entry.kind {
                EntryKind::StepStarted { step, .. } => {
                    at_work.insert((operation, step));
                }
                EntryKind::StepDone { step, .. }
                | EntryKind::StepFailed { step, .. }
                | EntryKind::StepNotApplied { step }
                | EntryKind::StepSkipped { step } => {
                    at_work.remove(&(operation.as_str(), step));
                }
                EntryKind::Ended { .. } => at_work.retain(|(of, _)| of != operation),
                _ => {}
            }
        }
        pass(Timestamp::now(), true, &|| "its end".to_owned());
        (own, longest.1)
    }
}

#[test]
fn what_is_at_work_does_not_count_and_what_waits_does() {
    let began = Timestamp::now() - jiff::SignedDuration::from_secs(60);
    let entry = |second: i64, kind: EntryKind| {
        let at = began + jiff::SignedDuration::from_secs(second);
        ("op".to_owned(), Entry { format: 1, at, epoch: 1, kind })
    };
    let failed = EntryKind::StepFailed {
        step: 0,
        class: backout_core::ports::ErrorClass::Transient,
        message: String::new(),
    };
    let entries = [
        entry(-5, EntryKind::StepStarted { step: 0, attempt: 1 }),
        entry(2, EntryKind::Claimed { holder: "x".to_owned() }),
        entry(3, EntryKind::StepNotApplied { step: 0 }),
        entry(3, EntryKind::StepStarted { step: 0, attempt: 2 }),
        entry(23, failed),
        // A pause between two tries.
        entry(29, EntryKind::StepStarted { step: 0, attempt: 3 }),
        entry(59, EntryKind::StepSkipped { step: 0 }),
    ];
    let (own, longest) = OwnTime { began }.sum(&entries);
    let seconds = own.as_secs_f64().round();
    assert!((10.0..=12.0).contains(&seconds), "2 + 1 + 6 + 1 and a moment, not {seconds}");
    assert!(longest.contains("attempt: 3"), "{longest}");
}
