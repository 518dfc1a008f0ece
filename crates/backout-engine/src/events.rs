//! What a run tells while it goes on. Reporters follow these; nothing waits for them.

use std::collections::BTreeMap;

use backout_core::ids::Slot;
use backout_core::model::{OperationKind, Trigger};
use backout_core::plan::Plan;
use backout_judge::Verdict;
use tokio::sync::broadcast;

/// How a step changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepMark {
    /// Begun.
    Started,
    /// Done.
    Done,
    /// Seen done already.
    Adopted,
    /// The try failed.
    Failed,
    /// Not needed.
    Skipped,
}

/// Requests of one side so far in this watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SideReading {
    /// The deployment.
    pub deployment: u64,
    /// With an outcome.
    pub requests: u64,
    /// Of them failed.
    pub failed: u64,
    /// 95th percentile of the last seconds, microseconds.
    pub p95_us: Option<u64>,
}

/// What a watch sees now.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchReading {
    /// Name of the step.
    pub step: String,
    /// Milliseconds since it began.
    pub elapsed_ms: u64,
    /// Milliseconds that it takes if all goes well.
    pub total_ms: u64,
    /// The hold clock stands.
    pub paused: bool,
    /// Percent by slot.
    pub weights: BTreeMap<Slot, u8>,
    /// Requests by slot.
    pub sides: BTreeMap<Slot, SideReading>,
    /// Passing checks in a row.
    pub passes: u32,
    /// The verdict.
    pub verdict: Verdict,
}

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// An operation began or was resumed.
    Opened {
        /// Its plan.
        plan: Box<Plan>,
        /// It had begun before.
        resumed: bool,
    },
    /// A step changed.
    Step {
        /// What the operation does.
        kind: OperationKind,
        /// Index.
        index: usize,
        /// How many there are.
        total: usize,
        /// Name.
        name: String,
        /// What it is done to.
        subject: String,
        /// How it changed.
        mark: StepMark,
        /// For people.
        message: String,
    },
    /// A watch goes on.
    Watch(Box<WatchReading>),
    /// A release goes back.
    Failing {
        /// What caused it.
        trigger: Trigger,
        /// The sentences behind it.
        evidence: Vec<String>,
        /// When it was decided, microseconds since the Unix epoch.
        at_us: i64,
    },
    /// All users are on a good release again.
    TrafficSafe {
        /// Milliseconds since it was decided to go back.
        after_ms: u64,
    },
    /// A person should know.
    Warning(String),
    /// For `-v` and progress.
    Note(String),
}

/// Where events go. Slow readers lose the oldest.
#[derive(Debug, Clone)]
pub struct EventSink(broadcast::Sender<Event>);

impl Default for EventSink {
    fn default() -> Self {
        Self(broadcast::channel(1024).0)
    }
}

impl EventSink {
    /// Follows along from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }

    /// Tells.
    pub fn send(&self, event: Event) {
        // Nobody listening is fine: the journal has it.
        let _ = self.0.send(event);
    }

    /// Tells a person.
    pub fn warn(&self, message: impl Into<String>) {
        self.send(Event::Warning(message.into()));
    }

    /// Tells whoever wants detail.
    pub fn note(&self, message: impl Into<String>) {
        self.send(Event::Note(message.into()));
    }
}
